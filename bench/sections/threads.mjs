import { PAUSE, quantile, ratios, summary, takeTurns } from '../measure.mjs';
import { occupyCores } from '../occupied-cores.mjs';
import { startOrLeaveOut, startPackage, startServer } from '../peers/start.mjs';
import { spread } from '../report.mjs';

export const about = "how libtorch's threads wait for work: on idle cores, and with something else on each of them";
export const models = ['bert.pt', 'tiny.pt'];

// What libtorch's OpenMP runtime is told, by the environment of a process. The first are the ends of the range.
const SPINNING = "spinning, libgomp's default";
const PASSIVE = 'passive';
const OWN = "the package's own";
const POLICIES = { [SPINNING]: { GOMP_SPINCOUNT: '300000' }, [PASSIVE]: { OMP_WAIT_POLICY: 'passive' }, [OWN]: {} };
/** Others, which --long measures as well. */
const COUNTS = [100, 300, 1000, 3000, 10_000, 30_000, 100_000];

const IDLE_LIMIT = 1.03;
const BUSY_LIMIT = 1.3;

export async function run({ report, models: files, threads, timing, quick, long }) {
  const policies = { ...POLICIES };
  if (long) for (const count of COUNTS) policies[`GOMP_SPINCOUNT=${count}`] = { GOMP_SPINCOUNT: String(count) };
  const tokens = quick ? 16 : 128;
  const workloads = [
    {
      title: `forward, BERT-like, 1 × ${tokens} tokens`,
      model: 'bert.pt',
      start: startPackage,
      way: 'forward',
      tokens,
      count: 1,
    },
    {
      title: 'forward, a tiny model, 100 calls',
      model: 'tiny.pt',
      start: startPackage,
      way: 'forward',
      tokens: 4,
      count: 100,
    },
    {
      title: `serve, BERT-like, 1 × ${tokens} tokens, a request`,
      model: 'bert.pt',
      start: startServer,
      way: 'infer',
      tokens,
      count: 1,
    },
  ];
  for (const { title, model, start, way, tokens: length, count } of workloads) {
    if (!files.has(model)) continue;
    const ways = [];
    for (const [name, env] of Object.entries(policies)) {
      const peer = await startOrLeaveOut(report, name, () => start({ models: files, threads, model, env }));
      if (peer) ways.push({ name, peer, run: () => peer.run(way, 1, length, count) });
    }
    for (const busy of [false, true]) {
      const release = busy ? occupyCores() : () => {};
      const { times, failures } = await takeTurns(ways, { ...timing, pause: PAUSE }).finally(release);
      for (const [name, error] of failures) report.leftOut(name, error.message);
      const [spinning, passive] = [SPINNING, PASSIVE].map((name) => times.get(name));
      if (!spinning || !passive) continue;
      const rows = [...times].map(([name, ms]) => ({
        name,
        ms: summary(ms),
        ofSpinning: summary(ratios(ms, spinning)),
        ofPassive: summary(ratios(ms, passive)),
      }));
      const lines = rows.map(({ name, ms, ofSpinning, ofPassive }) => [
        name,
        spread(ms, 1),
        spread(ofSpinning, 2),
        spread(ofPassive, 2),
      ]);
      const state = busy ? 'every core busy' : 'idle cores';
      report.table(
        `${title}; ${state} (${spinning.length} turns)`,
        ['ms (quartiles)', '× spinning', '× passive'],
        lines,
        { rows },
      );
      const own = times.get(OWN);
      if (!own) continue;
      if (busy) report.goal(`${title}, every core busy × passive`, quantile(ratios(own, passive), 0.5), BUSY_LIMIT);
      else report.goal(`${title}, idle cores × spinning`, quantile(ratios(own, spinning), 0.5), IDLE_LIMIT);
    }
    for (const { peer } of ways) peer.end();
  }
}
