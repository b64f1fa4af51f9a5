import { PAUSE, ratios, rowsOf, summary, takeTurns } from '../measure.mjs';
import { inputsOf, startLibtorch, startOrLeaveOut } from '../peers/start.mjs';
import { memoryFor } from '../process-memory.mjs';
import { megabytes } from '../report.mjs';
import { packageWays } from './captures.mjs';
import { bertCases, title } from './cases.mjs';

export const about = 'every weight beside the plain forward and the operations that the weights take at least';
export const models = ['bert.pt'];

const EVERY = 'every weight';
const FLOOR = 'score products, exponentials, one write';
// Every weight, of the plain forward and those operations.
const LIMIT = 1.15;
const CASES = new Set(['1 × 512', '8 × 512', '32 × 128', '1 × 2048']);

export async function run({ report, models: files, threads, timing, quick }) {
  if (!files.has('bert.pt')) return;
  const start = () => startLibtorch({ models: files, threads, model: 'bert.pt' });
  const peer = await startOrLeaveOut(report, 'the operations by themselves', start);
  if (!peer) return;
  const model = await files.load('bert.pt');
  for (const { batch, tokens, weights } of bertCases({ quick, longest: false })) {
    if (!quick && !CASES.has(`${batch} × ${tokens}`)) continue;
    const what = title('bert', batch, tokens);
    // Here and in the peer.
    if (!memoryFor(2 * weights)) {
      report.leftOut(what, `${megabytes(weights)} of weights, twice: too much for the memory that is free`);
      continue;
    }
    const ways = [
      ...packageWays(model, inputsOf('bert.pt', batch, tokens), ['forward', EVERY]),
      { name: FLOOR, run: () => peer.run('floor', batch, tokens) },
    ];
    const taken = await takeTurns(ways, { ...timing, warmUps: tokens > 1000 ? 1 : timing.warmUps, pause: PAUSE });
    report.comparison(what, rowsOf(ways, taken));
    const [plain, every, floor] = ['forward', EVERY, FLOOR].map((name) => taken.times.get(name));
    if (!plain || !every || !floor) continue;
    const least = plain.map((ms, turn) => ms + floor[turn]);
    report.goal(`${what}: ${EVERY} × (forward + ${FLOOR})`, summary(ratios(every, least)).median, LIMIT);
  }
  model.dispose();
  peer.end();
}
