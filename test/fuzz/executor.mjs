import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { nn, ScriptModule, setConcurrency, setNumThreads, Tensor } from '../../dist/index.js';
import { programs, ramp } from './corpus.mjs';
import { Fault, isExpected } from './outcome.mjs';
import { Random } from './random.mjs';

// Rounds of calls side by side on several models: forwards, captures, hooks, aborts, disposals, moves, workers that come
// and go. Whatever comes to an end has the bits that it has on a quiet process.

export const title = 'executor under stress';
export const share = 0.1;
export const count = 200;
export const batch = 20;
export const timeout = 120_000;
export const jobs = 1;

/** Without fused layers, whose hooked form has other last bits. */
const FILES = [
  'two_of_a_class_script.pt',
  'hand_sdpa_script.pt',
  'hand_matmul_trace.pt',
  'looped_sdpa.pt',
  'nested.pt',
];
const CALLS = 40;
const SETTLED_MS = 60_000;

let models;

export async function setUp() {
  setNumThreads(1);
  process.removeAllListeners('warning');
  process.on('warning', () => {}); // hooks that an aborted run didn't reach
  models = [];
  for (const { path, inputs } of programs().filter((each) => FILES.some((file) => each.path.endsWith(`/${file}`)))) {
    const model = await ScriptModule.load(path);
    await add(model, await inputs(), path);
  }
  const layer = new nn.MultiheadAttention({ embedDim: 8, numHeads: 2, batchFirst: true }).eval();
  await add(layer, [ramp([2, 5, 8]), ramp([2, 5, 8]), ramp([2, 5, 8])]);
}

async function add(model, inputs, path) {
  const forward = () => model.forward(...(path ? [inputs] : inputs));
  const capture = () => model.captureAttention(inputs);
  // The first runs profile and compile.
  for (let i = 0; i < 3; i++) await forward();
  const quiet = { forward: bits(await forward()), capture: bits(await capture()) };
  models.push({
    model,
    inputs,
    path,
    quiet,
    call: path ? (options) => model.forward(inputs, options) : (options) => model.forward(...inputs, options),
  });
}

/** A hash of all tensors and numbers of a value. */
export function bits(value) {
  const hash = createHash('sha1');
  const add = (item) => {
    if (item instanceof Tensor) {
      const array = item.toTypedArray();
      hash
        .update(`${item.dtype}[${item.shape}]`)
        .update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    } else if (item !== null && typeof item === 'object') {
      for (const [key, each] of Object.entries(item)) {
        hash.update(key);
        add(each);
      }
    } else hash.update(String(item));
  };
  add(value);
  return hash.digest('hex');
}

function checkBits(value, expected, what) {
  if (bits(value) !== expected) throw new Fault('wrong', `${what} differs from a quiet run`);
}

export async function runCase(seed, index, { tell }) {
  const random = new Random(seed, index);
  setConcurrency(random.between(1, 4));
  const names = [];
  const calls = Array.from({ length: CALLS }, () => {
    const [name, act] = random.pick(ACTS);
    names.push(name);
    return { name, work: act(random, random.pick(models)) };
  });
  tell(names.join(' '));
  const ended = Promise.allSettled(calls.map(({ work }) => work));
  const results = await Promise.race([ended, delay(SETTLED_MS, undefined, { ref: false })]);
  if (!results) throw new Fault('hung', `calls not settled within ${SETTLED_MS / 1000} s`);
  for (const [at, { status, reason }] of results.entries()) {
    if (status === 'fulfilled' || reason === ABORTED || isExpected(reason)) continue;
    if (reason instanceof Fault) throw reason;
    throw new Fault('uncoded', `${calls[at].name}: ${reason?.stack ?? reason}`);
  }
  return 'ran';
}

const ABORTED = new Error('aborted');
const PATH_OF_WORKER = fileURLToPath(new URL('executor-worker.mjs', import.meta.url));

function abortedSoon(random) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(ABORTED), random.below(20));
  return controller.signal;
}

const ACTS = [
  ['forward', async (_random, { call, quiet }) => checkBits(await call(), quiet.forward, 'an output')],
  ['forward', async (_random, { call, quiet }) => checkBits(await call(), quiet.forward, 'an output')],
  [
    'capture',
    async (_random, { model, inputs, quiet }) =>
      checkBits(await model.captureAttention(inputs), quiet.capture, 'a capture'),
  ],
  [
    'capture',
    async (_random, { model, inputs, quiet }) =>
      checkBits(await model.captureAttention(inputs), quiet.capture, 'a capture'),
  ],
  [
    'hook',
    async (random, { model, call, quiet }) => {
      const milliseconds = random.below(5);
      const path = random.pick(model.modules()).name;
      const handle = model.registerForwardHook(path, async () => void (await delay(milliseconds)));
      try {
        checkBits(await call(), quiet.forward, 'an output with a hook');
      } finally {
        handle.remove();
      }
    },
  ],
  [
    'abort',
    async (random, { call, quiet }) =>
      checkBits(await call({ signal: abortedSoon(random) }), quiet.forward, 'an output'),
  ],
  [
    'abort',
    async (random, { model, inputs, quiet }) =>
      checkBits(await model.captureAttention(inputs, { signal: abortedSoon(random) }), quiet.capture, 'a capture'),
  ],
  [
    'stream',
    async (random, { model, inputs }) => {
      let left = random.below(3);
      for await (const { weights } of model.captureAttentionStream(inputs)) {
        weights.dispose();
        if (left-- === 0) break;
      }
    },
  ],
  [
    'many',
    async (random, { model, inputs, quiet }) => {
      const several = Array.from({ length: random.between(1, 4) }, () => inputs);
      for await (const { index, error, ...capture } of model.captureMany(several, { ahead: random.below(3) })) {
        if (error) throw error;
        checkBits(capture, quiet.capture, `capture ${index} of several`);
      }
    },
  ],
  [
    'dispose',
    async (random, { path, inputs, quiet }) => {
      if (!path) return;
      const model = await ScriptModule.load(path);
      const run = model.forward(inputs);
      run.catch(() => {});
      await delay(random.below(5));
      model.dispose();
      checkBits(await run, quiet.forward, 'an output of a disposed model');
    },
  ],
  ['to', async (_random, { model }) => model.to('cpu')],
  ['names', async (_random, { model }) => void [model.modules(), model.namedParameters(), model.stateDict()]],
  ['concurrency', async (random) => setConcurrency(random.between(1, 4))],
  [
    'worker',
    async (random, { path, quiet }) => {
      if (!path || random.chance(0.5)) return;
      const worker = new Worker(PATH_OF_WORKER, { workerData: path });
      const leavesAfter = random.chance(0.5) ? random.below(300) : undefined;
      if (leavesAfter !== undefined) setTimeout(() => worker.terminate(), leavesAfter);
      const result = await new Promise((resolve, reject) => {
        worker
          .once('message', resolve)
          .once('error', reject)
          .once('exit', () => resolve(undefined));
      });
      await worker.terminate();
      if (result !== undefined && result !== quiet.forward)
        throw new Fault('wrong', 'an output in a worker differs from a quiet run');
    },
  ],
];
