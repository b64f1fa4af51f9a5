import { performance } from 'node:perf_hooks';
import { compare, milliseconds, PAUSE } from '../measure.mjs';
import { inputsOf, startLoading, startOnnx, startOnnxPython, startOrLeaveOut } from '../peers/start.mjs';
import { WAYS } from '../ways.mjs';
import { title } from './cases.mjs';

export const about =
  'what the options of load gain, and what they change in the output; from loading to the first result';
export const models = ['bert.pt', 'bert.pt2'];

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

/** From a file to the first result, in processes that have loaded their libraries. */
async function firstResult({ report, models: files, threads, timing, quick }) {
  const [batch, tokens] = [1, quick ? 16 : 128];
  const inputs = inputsOf('bert.pt', batch, tokens);
  const own = (file, options) => ({
    name: `${file.replace('bert', '')}${options ? ', optimize' : ''}`,
    run: async () => {
      let model;
      const ms = await milliseconds(async () => {
        model = await files.load(file, options);
        await WAYS.forward(model, inputs);
      });
      model.dispose();
      return ms;
    },
  });
  const ways = ['bert.pt2', 'bert.pt']
    .filter((file) => files.has(file))
    .flatMap((file) => [own(file), own(file, { optimize: true })]);
  const started = [];
  for (const [name, start, way] of [
    ['onnxruntime-node', () => startOnnx({ models: files, threads }), 'first result'],
    ['onnxruntime, Python', () => startOnnxPython({ models: files, threads }), 'first result'],
    ['torch.jit.load, Python', () => startLoading({ threads, run: true }), files.path('bert.pt')],
  ]) {
    const peer = await startOrLeaveOut(report, name, start);
    if (!peer) continue;
    started.push(peer);
    ways.push({ name, run: () => peer.run(way, batch, tokens) });
  }
  const rows = await compare(ways, { ...timing, pause: PAUSE });
  report.comparison(`${title('bert', batch, tokens)}: from the file to the first result`, rows);
  for (const peer of started) peer.end();
}

export async function run(context) {
  const { report, models: files, threads, timing, quick } = context;
  if (!files.has('bert.pt')) return;
  await firstResult(context);
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
