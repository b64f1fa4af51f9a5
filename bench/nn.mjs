// The native encoder against Python's nn.TransformerEncoder: the same weights, input, machine and threads, in one run,
// taking turns so that both meet the same disturbances. Usage: node bench/nn.mjs [rounds]

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const { nn, setNumThreads, Tensor } = require('../dist/index.js');

const ROUNDS = Number(process.argv[2] ?? 15);
const CASES = [
  { dModel: 384, nhead: 12, dimFeedforward: 1536, layers: 6, batch: 1, length: 128, threads: 2 },
  { dModel: 384, nhead: 12, dimFeedforward: 1536, layers: 6, batch: 1, length: 512, threads: 2 },
  { dModel: 512, nhead: 8, dimFeedforward: 2048, layers: 6, batch: 8, length: 64, threads: 2 },
];

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

async function timed(run) {
  const begin = performance.now();
  await run();
  return performance.now() - begin;
}

/** Python as a process that answers each task with the milliseconds it took. */
function python(options) {
  const child = spawn(
    'python3',
    [fileURLToPath(new URL('nn_reference.py', import.meta.url)), JSON.stringify(options)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('Python ended');
    return value;
  };
  return {
    ready: next(),
    run: async (task) => {
      child.stdin.write(`${task}\n`);
      return Number(await next());
    },
    end: () => child.stdin.end(),
  };
}

async function compare(options) {
  const folder = await mkdtemp(join(tmpdir(), 'bench-nn-'));
  const state = join(folder, 'state.safetensors');
  const reference = python({ ...options, state });
  try {
    await reference.ready;
    const { dModel, nhead, dimFeedforward, layers, batch, length } = options;
    setNumThreads(options.threads);
    const layer = new nn.TransformerEncoderLayer({
      dModel,
      nhead,
      dimFeedforward,
      activation: 'gelu',
      batchFirst: true,
    });
    const encoder = new nn.TransformerEncoder(layer, layers).eval();
    await encoder.loadStateDict(state);
    const values = Float32Array.from({ length: batch * length * dModel }, (_, i) => Math.sin(i));
    const src = Tensor.from(values, { shape: [batch, length, dModel] });
    const tasks = {
      native: () =>
        timed(async () => {
          (await encoder.forward(src)).dispose();
        }),
      python: () => reference.run('plain'),
      'native, all weights': () =>
        timed(async () => {
          const { output, attentions } = await encoder.captureAttention([src]);
          for (const tensor of [output, ...attentions.map(({ weights }) => weights)]) tensor.dispose();
        }),
      'python, all weights': () => reference.run('weights'),
    };
    const times = Object.fromEntries(Object.keys(tasks).map((name) => [name, []]));
    for (let round = -3; round < ROUNDS; round++) {
      for (const [name, run] of Object.entries(tasks)) {
        const milliseconds = await run();
        if (round >= 0) times[name].push(milliseconds);
      }
    }
    return Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list)]));
  } finally {
    reference.end();
    await rm(folder, { recursive: true });
  }
}

for (const options of CASES) {
  const times = await compare(options);
  const { dModel, nhead, layers, batch, length } = options;
  console.log(
    `\n${layers} layers of ${dModel} features and ${nhead} heads, [${batch}, ${length}], ${options.threads} threads`,
  );
  for (const [name, milliseconds] of Object.entries(times))
    console.log(`  ${name.padEnd(22)} ${milliseconds.toFixed(1)} ms`);
  const ratio = (a, b) => (times[a] / times[b]).toFixed(2);
  console.log(`  plain: ${ratio('native', 'python')} of Python's (wanted: at most 1.05)`);
  console.log(`  all weights: ${ratio('native, all weights', 'native')} of plain (wanted: at most 1.10)`);
  console.log(`  all weights in Python: ${ratio('python, all weights', 'python')} of its plain`);
}
process.exit(0);
