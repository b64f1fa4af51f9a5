import { compare, PAUSE } from '../measure.mjs';
import { inputsOf, startLibtorch, startOrLeaveOut } from '../peers/start.mjs';
import { packageWays } from './captures.mjs';
import { title } from './cases.mjs';

export const about = 'what the package costs where nothing is asked of it: forward beside libtorch itself';
export const models = ['encoder.pt', 'bert.pt'];

export async function run({ report, models: files, threads, timing, quick }) {
  const tokens = quick ? 16 : 128;
  for (const kind of ['encoder', 'bert']) {
    const file = `${kind}.pt`;
    if (!files.has(file)) continue;
    // Both of its ways in one process: nothing but the package lies between them.
    const start = () => startLibtorch({ models: files, threads, model: file });
    const peer = await startOrLeaveOut(report, `${kind} in C++`, start);
    if (!peer) continue;
    const model = await files.load(file);
    const ways = [
      { name: 'libtorch, C++', run: () => peer.run('libtorch', 1, tokens) },
      { name: "the package's C++", run: () => peer.run('package', 1, tokens) },
      ...packageWays(model, inputsOf(file, 1, tokens), ['forward']),
    ];
    report.comparison(title(kind, 1, tokens), await compare(ways, { ...timing, pause: PAUSE }));
    model.dispose();
    peer.end();
  }
}
