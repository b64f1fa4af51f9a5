import { performance } from 'node:perf_hooks';
import { ratios, summary, takeTurns } from '../measure.mjs';
import { inputsOf } from '../peers/start.mjs';
import { spread } from '../report.mjs';

export const about = 'throughput of 1 to 16 calls at once, of one model';
export const models = ['bert.pt', 'tiny.pt'];

const AT_ONCE = [1, 2, 4, 8, 16];
/** Of the throughput of the best smaller number, at least. */
const LEAST = 0.9;

/** Milliseconds that `count` calls take, so many of them at once. */
async function millisecondsOf(call, count, atOnce) {
  let begun = 0;
  const loop = async () => {
    while (begun++ < count) await call();
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: atOnce }, loop));
  return performance.now() - start;
}

export async function run({ report, models: files, timing, quick }) {
  for (const [file, tokens, count] of [
    ['bert.pt', quick ? 16 : 128, 16],
    ['tiny.pt', 4, quick ? 160 : 1600],
  ]) {
    if (!files.has(file)) continue;
    const model = await files.load(file);
    const input = inputsOf(file, 1, tokens);
    const call = async () => (await model.forward(input)).dispose();
    for (let run = 0; run < 3; run++) await call();
    const ways = AT_ONCE.map((atOnce) => ({ name: String(atOnce), run: () => millisecondsOf(call, count, atOnce) }));
    const { times } = await takeTurns(ways, timing);
    model.dispose();
    const alone = times.get('1');
    const rows = [...times].map(([name, ms]) => ({
      name: Number(name),
      perSecond: summary(ms.map((each) => (1000 * count) / each)),
      ofOne: summary(ratios(alone, ms)),
    }));
    const lines = rows.map(({ name, perSecond, ofOne }) => [`${name} at once`, spread(perSecond, 0), spread(ofOne, 2)]);
    const title = `${file === 'bert.pt' ? 'BERT-like' : 'tiny model'}, 1 × ${tokens} tokens`;
    report.table(`${title} (${alone.length} turns)`, ['calls a second (quartiles)', '× one at a time'], lines, {
      rows,
    });
    let best = rows[0].ofOne.median;
    let worst = 1;
    for (const { ofOne } of rows.slice(1)) {
      worst = Math.min(worst, ofOne.median / best);
      best = Math.max(best, ofOne.median);
    }
    report.goal(`${title}: throughput of more calls at once ÷ the best of fewer`, worst, LEAST, { atLeast: true });
  }
}
