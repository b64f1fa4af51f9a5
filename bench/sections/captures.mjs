import { compare, milliseconds } from '../measure.mjs';
import { inputsOf } from '../peers/start.mjs';
import { memoryFor } from '../process-memory.mjs';
import { megabytes } from '../report.mjs';
import { WAYS } from '../ways.mjs';
import { bertCases, title } from './cases.mjs';

export const about = 'captures with each of their options, beside the plain forward of the same file';
export const models = ['encoder.pt', 'bert.pt'];

// Of the BERT-like model on its own sequence lengths; the issue of each is the goal of the project.
const LIMITS = {
  '1 × 512': { 'every weight': 1.2, 'one row per head': 1.02, averageHeads: 1.25 },
  '1 × 4096': { 'topK: 10': 1.5 },
};

/** Ways whose results are too large for long sequences. */
const LARGE = new Set(['every weight', 'every weight, exact: false', 'heads: [0]']);

/** Ways of this package on a model loaded in this process, as `compare` takes them. */
export function packageWays(model, inputs, names, limits = {}) {
  return names.map((name) => {
    let held = 0;
    const run = () =>
      milliseconds(async () => {
        held = await WAYS[name](model, inputs);
      });
    return { name, run, limit: limits[name], bytes: () => held };
  });
}

export async function run({ report, models: files, timing, quick, long }) {
  if (files.has('encoder.pt')) {
    const encoder = await files.load('encoder.pt');
    const tokens = quick ? 16 : 128;
    const limits = { 'every weight': 1.03 };
    const ways = packageWays(encoder, inputsOf('encoder.pt', 1, tokens), ['forward', 'every weight'], limits);
    report.comparison(title('encoder', 1, tokens), await compare(ways, timing));
    encoder.dispose();
  }
  if (!files.has('bert.pt')) return;
  const bert = await files.load('bert.pt');
  for (const { batch, tokens, weights } of bertCases({ quick })) {
    const fits = memoryFor(weights);
    const everything = fits && (long || tokens < 4096);
    const names = Object.keys(WAYS).filter((name) => everything || !LARGE.has(name));
    const ways = packageWays(bert, inputsOf('bert.pt', batch, tokens), names, LIMITS[`${batch} × ${tokens}`]);
    const warmUps = tokens > 1000 ? 1 : timing.warmUps;
    const rows = await compare(ways, { ...timing, warmUps });
    report.comparison(title('bert', batch, tokens), rows);
    if (!everything) {
      const why = fits ? 'with --long only' : `${megabytes(weights)} of weights: too much for the memory that is free`;
      report.leftOut('every weight and heads', why);
    }
    const bytes = (name) => rows.find((row) => row.name === name)?.bytes;
    if (batch === 1 && tokens === 512 && bytes('averageHeads') && bytes('every weight')) {
      report.goal('memory of averageHeads × every weight', bytes('averageHeads') / bytes('every weight'), 0.084);
    }
  }
  bert.dispose();
}
