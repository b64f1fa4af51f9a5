import { performance } from 'node:perf_hooks';
import { compare, milliseconds, PAUSE } from '../measure.mjs';
import { inputsOf, startOnnx, startOrLeaveOut } from '../peers/start.mjs';
import { WAYS } from '../ways.mjs';
import { title } from './cases.mjs';

export const about = 'what the options of load gain, and what they change in the output';
export const models = ['bert.pt'];

const OPTIONS = {
  forward: {},
  'optimize: true': { optimize: true },
  "dtype: 'bfloat16'": { dtype: 'bfloat16' },
  'optimize and bfloat16': { optimize: true, dtype: 'bfloat16' },
};
// The one peer that optimizes the model as a whole when it loads it.
const PEER = 'onnxruntime-node, attentions';

async function output(model, inputs) {
  const tensor = await model.forward(inputs);
  const wide = tensor.to({ dtype: 'float32' });
  const values = wide.toTypedArray().slice();
  wide.dispose();
  return values;
}

function largestDifference(left, right) {
  let largest = 0;
  for (let i = 0; i < left.length; i++) largest = Math.max(largest, Math.abs(left[i] - right[i]));
  return largest;
}

export async function run({ report, models: files, threads, timing, quick }) {
  if (!files.has('bert.pt')) return;
  const onnx = await startOrLeaveOut(report, 'onnxruntime-node', () => startOnnx({ models: files, threads }));
  const loaded = [];
  for (const [name, options] of Object.entries(OPTIONS)) {
    const start = performance.now();
    const model = await files.load('bert.pt', options);
    loaded.push({ name, model, loading: performance.now() - start });
  }
  for (const tokens of quick ? [16] : [128, 512]) {
    const inputs = inputsOf('bert.pt', 1, tokens);
    const ways = loaded.map(({ name, model }) => ({
      name,
      run: () => milliseconds(() => WAYS.forward(model, inputs)),
    }));
    const optimized = loaded.find(({ name }) => name === 'optimize: true').model;
    ways.push({
      name: 'optimize: true, every weight',
      base: 'optimize: true',
      run: () => milliseconds(() => WAYS['every weight'](optimized, inputs)),
    });
    if (onnx) ways.push({ name: PEER, run: () => onnx.run('attentions', 1, tokens) });
    const rows = await compare(ways, { ...timing, pause: PAUSE });
    report.comparison(title('bert', 1, tokens), rows);
    const expected = await output(loaded[0].model, inputs);
    const differences = [];
    for (const { name, model, loading } of loaded) {
      if (rows.find((row) => row.name === name).error) continue;
      const difference = largestDifference(expected, await output(model, inputs));
      differences.push({ name, loading, difference });
    }
    const lines = differences.map(({ name, loading, difference }) => [
      name,
      difference.toExponential(1),
      loading.toFixed(0),
    ]);
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    report.table(
      `The output of each, of which the largest number is ${largest.toFixed(1)}`,
      ['largest difference from forward', 'ms to load'],
      lines,
      { rows: differences, largest },
    );
    const time = (name) => rows.find((row) => row.name === name)?.ms?.median;
    if (tokens === 512 && time(PEER)) {
      report.goal(`optimize: true, every weight × ${PEER}`, time('optimize: true, every weight') / time(PEER), 1);
    }
  }
  for (const { model } of loaded) model.dispose();
  onnx?.end();
}
