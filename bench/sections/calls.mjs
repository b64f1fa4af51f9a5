import { spawnSync } from 'node:child_process';
import { quantile, summary, takeTurns } from '../measure.mjs';
import { startLibtorch, startOrLeaveOut, startPackage, startTorchJit } from '../peers/start.mjs';
import { spread } from '../report.mjs';

export const about = 'what a call costs: arguments in, result out; one thread inside the model';
export const models = ['tiny.pt', 'identity.pt'];

const [BATCH, TOKENS] = [1, 4];
// Microseconds of a call, at most.
const BEYOND_LIBTORCH = { forward: 40, forwardSync: 10 };
const RETURNING = 30;
const A_SECOND = 1000;

/** Something put before Node so that the process keeps to one core, where the system has it. */
function pinned() {
  return spawnSync('taskset', ['-c', '0', 'true']).status === 0 ? ['taskset', '-c', '0'] : null;
}

export async function run({ report, models: files, timing, quick }) {
  if (models.some((name) => !files.has(name))) return;
  const calls = quick ? 100 : 1000;
  const peers = [];
  const add = async (name, start, options, way) => {
    const peer = await startOrLeaveOut(report, name, () => start({ models: files, threads: 1, ...options }));
    // A block of calls at a time: one alone is shorter than what disturbs it.
    if (peer) peers.push({ name, peer, run: () => peer.run(way, BATCH, TOKENS, calls) });
  };
  await add('tiny model', startPackage, { model: 'tiny.pt' }, 'forward');
  await add('model that returns its input', startPackage, { model: 'identity.pt' }, 'forward');
  await add('tiny model, forwardSync', startPackage, { model: 'tiny.pt' }, 'forwardSync');
  await add('model that returns its input, forwardSync', startPackage, { model: 'identity.pt' }, 'forwardSync');
  await add('tiny model, libtorch in C++', startLibtorch, { model: 'tiny.pt' }, 'libtorch');
  await add("tiny model, Python's torch.jit", startTorchJit, { model: 'tiny.pt' }, 'forward');
  const command = pinned();
  if (command) await add('tiny model, on one core', startPackage, { model: 'tiny.pt', command }, 'forward');
  else report.leftOut('tiny model, on one core', 'needs taskset');

  const { times, failures } = await takeTurns(peers, timing);
  for (const { peer } of peers) peer.end();
  for (const [name, error] of failures) report.leftOut(name, error.message);
  const micros = new Map([...times].map(([name, blocks]) => [name, blocks.map((ms) => (ms * 1000) / calls)]));
  const theirs = micros.get('tiny model, libtorch in C++') ?? micros.get("tiny model, Python's torch.jit");
  for (const name of theirs ? ['tiny model', 'tiny model, forwardSync'] : []) {
    const cost = micros.get(name)?.map((us, turn) => us - theirs[turn]);
    if (cost) micros.set(`${name}, less libtorch's own time`, cost);
  }
  const rows = [...micros].map(([name, us]) => ({ name, us: summary(us), perSecond: 1e6 / quantile(us, 0.5) }));
  const lines = rows.map(({ name, us, perSecond }) => [name, spread(us, 1), perSecond.toFixed(0)]);
  report.table(`Calls one after the other, ${calls} in each turn`, ['µs a call (quartiles)', 'a second'], lines, {
    rows,
  });

  const row = (name) => rows.find((each) => each.name === name);
  const micro = { unit: ' µs', digits: 1 };
  const less = row("tiny model, less libtorch's own time");
  if (less) report.goal("cost of a call, without libtorch's own time", less.us.median, BEYOND_LIBTORCH.forward, micro);
  const lessSync = row("tiny model, forwardSync, less libtorch's own time");
  if (lessSync) {
    report.goal(
      "cost of a call of forwardSync, without libtorch's own time",
      lessSync.us.median,
      BEYOND_LIBTORCH.forwardSync,
      micro,
    );
  }
  const returned = row('model that returns its input');
  if (returned) report.goal('cost of a call, of a model that returns its input', returned.us.median, RETURNING, micro);
  const core = row('tiny model, on one core');
  if (core) {
    const options = { unit: ' a second', digits: 0, atLeast: true };
    report.goal('calls of a tiny model on one core', core.perSecond, A_SECOND, options);
  }
}
