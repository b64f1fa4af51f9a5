import {
  startEncoder,
  startHuggingFace,
  startLibtorch,
  startOnnx,
  startOrLeaveOut,
  startPackage,
  startTorchJit,
} from '../peers/start.mjs';
import { memoryFor } from '../process-memory.mjs';
import { megabytes } from '../report.mjs';
import { INTERRUPTED, WAYS } from '../ways.mjs';
import { title } from './cases.mjs';

export const about = 'peak memory of each way, and what stays; each in a process of its own';
export const models = ['encoder.pt', 'bert.pt', 'long.pt'];

const MB = 2 ** 20;
const TOP_K_LIMIT = 64;
// What was held by a capture that came to no end is a multiple of this; less is the allocator's.
const KEPT_LIMIT = 32;

// glibc learns from a large block that is freed to keep such blocks (up to 32 MB) for later, as much of them as chance
// has it: tens of megabytes up or down from one run to the next. With this, freed blocks of a megabyte go back at once.
const EXACT = { MALLOC_MMAP_THRESHOLD_: String(MB) };

const HEAD = [
  'ms',
  'peak',
  'beyond its plain forward',
  'kept afterwards',
  'of it idle result memory',
  'more after as many again',
];

/**
 * Measures one way of a peer in the process that was started for it: after plain forwards of the same process, so that
 * only what the way needs beyond them counts.
 */
async function measure(peer, { name, plain = 'forward', way, batch, tokens, count }) {
  try {
    // Both are there before anything is measured; a peer may have a model for each.
    await peer.load(plain);
    await peer.load(way);
    await peer.run(plain, batch, tokens, 2);
    const base = await peer.memory(plain, batch, tokens, 2);
    const used = await peer.memory(way, batch, tokens, count);
    const again = await peer.memory(way, batch, tokens, count);
    return {
      name,
      ms: used.ms / count,
      peak: used.peak,
      beyond: used.peak - base.peak,
      kept: used.after - base.after,
      ...(used.idle === undefined ? {} : { idle: used.idle - base.idle }),
      growth: again.after - used.after,
    };
  } finally {
    peer.end();
  }
}

async function measureAll({ report }, heading, size, ways) {
  const rows = [];
  for (const { name, start, needs = 0, ...way } of ways) {
    if (!memoryFor(needs)) {
      report.leftOut(name, `${megabytes(needs)} of weights: too much for the memory that is free`);
      continue;
    }
    const peer = await startOrLeaveOut(report, name, start);
    if (!peer) continue;
    try {
      rows.push(await measure(peer, { name, ...size, ...way }));
    } catch (error) {
      report.leftOut(name, error.message);
    }
  }
  const lines = rows.map(({ name, ms, peak, beyond, kept, idle, growth }) => [
    name,
    ms.toFixed(0),
    ...[peak, beyond, kept].map(megabytes),
    idle === undefined ? '' : megabytes(idle),
    megabytes(growth),
  ]);
  report.table(heading, HEAD, lines, { rows });
  return rows;
}

function packageWay(context, model, way, needs) {
  return { name: way, way, needs, start: () => startPackage({ ...context, model }) };
}

function bertPeers(context, needs) {
  const start = (starter) => () => starter({ ...context, model: 'bert.pt' });
  return [
    { name: 'libtorch, C++', way: 'libtorch', plain: 'libtorch', start: start(startLibtorch) },
    { name: 'torch.jit, Python', way: 'forward', start: start(startTorchJit) },
    { name: 'Hugging Face, sdpa', way: 'forward', start: start(startHuggingFace) },
    { name: 'Hugging Face, eager, attentions', way: 'attentions', needs, start: start(startHuggingFace) },
    { name: 'onnxruntime-node', way: 'forward', start: start(startOnnx) },
    { name: 'onnxruntime-node, attentions', way: 'attentions', needs, start: start(startOnnx) },
  ];
}

/** Every way of the BERT-like model, and that nothing stays of those that come to no end. */
async function bert(context) {
  const tokens = context.quick ? 64 : 2048;
  const weights = 6 * 12 * tokens * tokens * 4;
  const names = context.quick ? ['every weight', 'aborted'] : [...Object.keys(WAYS), ...Object.keys(INTERRUPTED)];
  const ways = names.map((way) => packageWay(context, 'bert.pt', way, weights));
  const peers = bertPeers(context, weights);
  const rows = await measureAll(
    context,
    `${title('bert', 1, tokens)}, all weights: ${megabytes(weights)}`,
    { batch: 1, tokens, count: 3 },
    [...ways, ...(context.quick ? peers.filter(({ needs }) => needs) : peers)],
  );
  for (const { name, kept, idle = 0 } of rows.filter(({ name }) => Object.hasOwn(INTERRUPTED, name))) {
    const what = `kept after a capture that is ${name}, without idle result memory`;
    context.report.goal(what, (kept - idle) / MB, KEPT_LIMIT, { unit: ' MB', digits: 0 });
  }
}

async function topK(context) {
  const tokens = context.quick ? 64 : 4096;
  const ways = ['topK: 10', 'onAttention'].map((way) => packageWay(context, 'bert.pt', way));
  const rows = await measureAll(context, title('bert', 1, tokens), { batch: 1, tokens, count: 2 }, ways);
  const row = rows.find(({ name }) => name === 'topK: 10');
  const options = { unit: ' MB', digits: 1 };
  if (row)
    context.report.goal(
      `topK: 10 at ${tokens} tokens, peak beyond the plain forward`,
      row.beyond / MB,
      TOP_K_LIMIT,
      options,
    );
}

/** The ten strongest keys of every row of a sequence whose whole matrix no one could hold. */
async function long(context) {
  const lengths = context.quick ? [1024] : [8192, 16384, 32768];
  const [heads, bytesOfOne] = [4, 12]; // a weight and its position
  for (const tokens of lengths) {
    const matrix = heads * tokens * tokens * 4;
    const result = heads * tokens * 10 * bytesOfOne;
    const heading =
      `One layer of 64 × ${heads} heads, ${tokens} tokens; all weights would be ${megabytes(matrix)}, ` +
      `the ten of each row are ${megabytes(result)}`;
    const ways = ['forward', 'topK: 10'].map((way) => packageWay(context, 'long.pt', way));
    await measureAll(context, heading, { batch: 1, tokens, count: 1 }, ways);
  }
}

async function encoder(context) {
  const tokens = context.quick ? 32 : 512;
  const weights = 12 * 8 * tokens * tokens * 4;
  await measureAll(
    context,
    `${title('encoder', 1, tokens)}, all weights: ${megabytes(weights)}`,
    { batch: 1, tokens, count: 3 },
    [
      ...['forward', 'every weight', 'onAttention'].map((way) => packageWay(context, 'encoder.pt', way)),
      { name: 'nn.TransformerEncoder', way: 'forward', start: () => startEncoder(context) },
      { name: 'need_weights and hooks', way: 'weights', start: () => startEncoder(context) },
    ],
  );
}

export async function run({ report, models: files, threads, quick, malloc }) {
  const env = malloc ? {} : EXACT;
  const context = { report, models: files, threads, quick, env };
  report.note(
    `the C library's memory: ${malloc ? 'as it is' : 'what is freed goes back to the system (see --malloc)'}`,
  );
  if (files.has('encoder.pt')) await encoder(context);
  if (files.has('bert.pt')) {
    await bert(context);
    await topK(context);
  }
  if (files.has('long.pt')) await long(context);
}
