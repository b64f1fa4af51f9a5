// npm run bench: what captures cost, side by side with the plain forward of the same file. All kinds of a model run in
// turns in one process, so that whatever else the machine does meets them alike; medians, quartiles and ratios to the
// plain forward go to the terminal and, as JSON, to bench/results/.
//
//   node bench/main.mjs [--runs N] [--long] [--threads N]
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const models = join(here, 'models');
const require = createRequire(import.meta.url);
const { ScriptModule, Tensor, getNumThreads, setNumThreads, versions } = require('../dist/index.js');

const { values: flags } = parseArgs({
  options: {
    runs: { type: 'string', default: '15' },
    threads: { type: 'string' },
    long: { type: 'boolean', default: false },
    memory: { type: 'string' }, // internal: one measurement in a process of its own
  },
});
const runs = Number(flags.runs);
if (flags.threads) setNumThreads(Number(flags.threads));

const ids = (batch, tokens) =>
  Tensor.from(
    BigInt64Array.from({ length: batch * tokens }, (_, i) => BigInt((i * 7919) % 1000)),
    { shape: [batch, tokens] },
  );
const floats = (...shape) =>
  Tensor.from(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i * 12.9898)),
    { shape },
  );
const load = (name) => ScriptModule.load(join(models, name));

function quantile(sorted, q) {
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)];
  return low + (sorted[Math.ceil(at)] - low) * (at - Math.floor(at));
}
function summary(times) {
  const sorted = [...times].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), low: quantile(sorted, 0.25), high: quantile(sorted, 0.75) };
}

async function capture(model, inputs, options) {
  const { output, attentions } = await model.captureAttention(inputs, options);
  let bytes = 0;
  for (const { weights, keys } of attentions) {
    bytes += weights.shape.reduce((a, b) => a * b, 4);
    weights.dispose();
    if (keys) {
      bytes += keys.shape.reduce((a, b) => a * b, 8);
      keys.dispose();
    }
  }
  output.dispose();
  return bytes;
}

const results = [];

/** Runs the plain forward and the kinds of captures in turns. */
async function compare(title, model, inputs, kinds, times = runs) {
  const forms = { 'plain forward': async () => (await model.forward(inputs)).dispose() };
  for (const [name, { options }] of Object.entries(kinds)) forms[name] = () => capture(model, inputs, options);
  const taken = Object.fromEntries(Object.keys(forms).map((name) => [name, []]));
  const bytes = {};
  for (const [name, form] of Object.entries(forms)) for (let i = 0; i < 3; ++i) bytes[name] = await form();
  for (let run = 0; run < times; ++run) {
    for (const [name, form] of Object.entries(forms)) {
      const start = performance.now();
      await form();
      taken[name].push(performance.now() - start);
    }
  }
  console.log(`\n${title}`);
  for (const name of Object.keys(forms)) {
    const time = summary(taken[name]);
    // Each run against the plain forward of the same turn.
    const ratio = summary(taken[name].map((ms, run) => ms / taken['plain forward'][run]));
    const limit = kinds[name]?.limit;
    const row = {
      title,
      name,
      ms: time,
      ratio,
      ...(bytes[name] ? { bytes: bytes[name] } : {}),
      ...(limit ? { limit } : {}),
    };
    results.push(row);
    console.log(
      `  ${name.padEnd(22)} ${time.median.toFixed(2).padStart(9)} ms  (${time.low.toFixed(2)} to ${time.high.toFixed(2)})` +
        `  × ${ratio.median.toFixed(3)} (${ratio.low.toFixed(2)} to ${ratio.high.toFixed(2)})` +
        (bytes[name] ? `  ${(bytes[name] / 2 ** 20).toFixed(1)} MB` : '') +
        (limit ? `  at most ${limit}${ratio.median <= limit ? '' : '  MISSED'}` : ''),
    );
  }
}

/** Cost of a call without the model: a model of a few microseconds, one call after the other on one thread. */
async function calls() {
  const threads = getNumThreads();
  setNumThreads(1);
  const tiny = await load('tiny.pt');
  const input = floats(1, 4, 16);
  for (let i = 0; i < 500; ++i) (await tiny.forward([input])).dispose();
  const taken = [];
  for (let i = 0; i < 3000; ++i) {
    const start = performance.now();
    (await tiny.forward([input])).dispose();
    taken.push((performance.now() - start) * 1000);
  }
  setNumThreads(threads);
  const time = summary(taken);
  console.log(
    `\nCalls: a forward of a tiny model takes ${time.median.toFixed(1)} µs, model included ` +
      `(${time.low.toFixed(1)} to ${time.high.toFixed(1)}): ${Math.round(1e6 / time.median)} a second`,
  );
  results.push({ title: 'calls', name: 'tiny forward, µs', us: time });
}

/** How long the event loop is kept waiting while a model runs for about a second. */
async function eventLoop(model) {
  const input = floats(8, 512, 512);
  await model.forward([input]);
  const idle = monitorEventLoopDelay({ resolution: 1 });
  idle.enable();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  idle.disable();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const start = performance.now();
  do {
    (await model.forward([input])).dispose();
  } while (performance.now() - start < 1000);
  const seconds = (performance.now() - start) / 1000;
  delay.disable();
  const p99 = delay.percentile(99) / 1e6;
  console.log(
    `\nEvent loop: 99th percentile of its delay ${p99.toFixed(1)} ms while forwards run for ${seconds.toFixed(1)} s ` +
      `(idle ${(idle.percentile(99) / 1e6).toFixed(1)} ms), at most 10${p99 <= 10 ? '' : '  MISSED'}`,
  );
  results.push({ title: 'event loop', name: 'delay p99, ms', ms: p99, idle: idle.percentile(99) / 1e6 });
}

const MEMORY = {
  plain: async (model, inputs) => (await model.forward(inputs)).dispose(),
  all: (model, inputs) => capture(model, inputs),
  averageHeads: (model, inputs) => capture(model, inputs, { averageHeads: true }),
  topK: (model, inputs) => capture(model, inputs, { topK: 10 }),
  onAttention: (model, inputs) => model.captureAttention(inputs, { onAttention: ({ weights }) => weights.dispose() }),
  oversized: (model, inputs) => model.captureAttention(inputs, { maxBytes: 1e8 }).catch(() => {}),
  failing: (model, inputs) =>
    model
      .captureAttention(inputs, {
        onAttention: () => {
          throw new Error('enough');
        },
      })
      .catch(() => {}),
  aborted: async (model, inputs) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 100);
    await model.captureAttention(inputs, { signal: stop.signal }).catch(() => {});
    await model.forward(inputs); // behind the run that was given up
  },
};

if (flags.memory) {
  const model = await load('bert.pt');
  const inputs = [ids(1, 2048)];
  await MEMORY.plain(model, inputs);
  const before = process.memoryUsage().rss;
  const peakBefore = process.resourceUsage().maxRSS * 1024;
  for (let i = 0; i < 3; ++i) await MEMORY[flags.memory](model, inputs);
  global.gc?.();
  console.log(
    JSON.stringify({
      peak: process.resourceUsage().maxRSS * 1024 - peakBefore,
      kept: process.memoryUsage().rss - before,
    }),
  );
  process.exit(0);
}

/** Peak and remaining memory of each kind of capture, each in a process of its own. */
function memory() {
  console.log(
    '\nMemory beyond a plain forward, BERT-like, 2,048 tokens (all weights: 1,152 MB): peak, and kept after three',
  );
  for (const kind of Object.keys(MEMORY)) {
    const child = spawnSync(process.execPath, ['--expose-gc', fileURLToPath(import.meta.url), '--memory', kind], {
      encoding: 'utf8',
    });
    let result;
    try {
      result = JSON.parse(child.stdout.trim().split('\n').at(-1));
    } catch {
      console.log(`  ${kind.padEnd(22)} failed: ${child.stderr.trim().split('\n').at(-1)}`);
      continue;
    }
    const { peak, kept } = result;
    console.log(
      `  ${kind.padEnd(22)} ${(peak / 2 ** 20).toFixed(0).padStart(6)} MB  ${(kept / 2 ** 20).toFixed(0).padStart(6)} MB`,
    );
    results.push({ title: 'memory', name: kind, peak, kept });
  }
}

const made = spawnSync('python3', [join(here, 'make_models.py'), models], { encoding: 'utf8' });
if (made.stdout.trim()) console.log(made.stdout.trim());
if (made.status !== 0) console.log(`left out: models that aren't there yet (${made.stderr.trim().split('\n').at(-1)})`);
const has = (name) => existsSync(join(models, name));

console.log(
  `libtorch ${versions?.libtorch ?? ''}, ${cpus()[0]?.model.trim()}, ${getNumThreads()} threads, ${runs} runs`,
);
if (has('encoder.pt')) {
  const encoder = await load('encoder.pt');
  await compare('nn.TransformerEncoder, 12 layers × 512, 128 tokens', encoder, [floats(1, 128, 512)], {
    'every weight': { limit: 1.03 },
  });
  await eventLoop(encoder);
  encoder.dispose();
}
if (has('bert.pt')) {
  const bert = await load('bert.pt');
  const one = { queries: [0] };
  for (const [batch, tokens] of [
    [1, 16],
    [1, 128],
    [32, 128],
    [1, 512],
  ]) {
    const target = batch === 1 && tokens === 512;
    await compare(
      `BERT-like, 6 layers × 384 × 12 heads, batch ${batch}, ${tokens} tokens`,
      bert,
      [ids(batch, tokens)],
      {
        'every weight': target ? { limit: 1.2 } : {},
        'one row per head': { options: one, ...(target ? { limit: 1.02 } : {}) },
        averageHeads: { options: { averageHeads: true }, ...(target ? { limit: 1.25 } : {}) },
        'topK: 10': { options: { topK: 10 } },
      },
    );
  }
  if (flags.long) {
    await compare(
      'BERT-like, 4,096 tokens',
      bert,
      [ids(1, 4096)],
      { 'topK: 10': { options: { topK: 10 }, limit: 1.5 } },
      3,
    );
  }
  bert.dispose();
}
if (has('tiny.pt')) await calls();
if (has('bert.pt')) memory();
for (const peer of ['libtorch from C++', 'Python (Hugging Face eager, need_weights)', 'onnxruntime-node']) {
  console.log(`left out: ${peer} (not part of this benchmark yet)`);
}
mkdirSync(join(here, 'results'), { recursive: true });
writeFileSync(
  join(here, 'results', 'bench.json'),
  `${JSON.stringify({ versions, threads: getNumThreads(), results }, null, 2)}\n`,
);
