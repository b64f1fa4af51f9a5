import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FIXTURES } from './corpus.mjs';
import { Fault } from './outcome.mjs';
import { Random } from './random.mjs';

// Processes and workers that end in every way in the middle of everything: each ends within seconds with its status.

export const title = 'ends of processes and workers';
export const share = 0.05;
export const count = 400;
export const batch = 20;
export const timeout = 120_000;

const PACKAGE = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
const MODEL = join(FIXTURES, 'models', 'transformer.pt');
const SECONDS = 30;

const prelude = `
  const { nn, ScriptModule, setConcurrency, Tensor } = require(${JSON.stringify(PACKAGE)});
  const f32 = (...shape) => Tensor.from(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)), { shape });
  const MODEL = ${JSON.stringify(MODEL)};
  const never = () => new Promise(() => {});
  const ignore = (promise) => void promise.catch(() => {});
`;
/** Loads a model; \`long\` are inputs that it takes about a second for, \`short\` others. */
const load = `
  const model = await ScriptModule.load(MODEL);
  const width = model.namedParameters().find(({ name }) => name.endsWith('in_proj_weight')).tensor.shape[1];
  const long = () => [f32(16, 400, width), f32(16, 400, width)];
  const short = () => [f32(1, 3, width), f32(1, 2, width)];
`;

/** What is under way. \`ends\`: whether it comes to an end by itself, so that the process may too. */
const SITUATIONS = {
  nothing: { script: '', ends: true },
  load: { script: 'ignore(ScriptModule.load(MODEL));', ends: true },
  'many loads': { script: 'for (let i = 0; i < 20; i++) ignore(ScriptModule.load(MODEL));', ends: true },
  run: { script: `${load} ignore(model.forward(long()));`, ends: true },
  'waiting runs': { script: `${load} for (let i = 0; i < 20; i++) ignore(model.forward(short()));`, ends: true },
  'concurrent runs': {
    script: `setConcurrency(4); ${load} for (let i = 0; i < 4; i++) ignore(model.forward(long()));`,
    ends: true,
  },
  'disposed model': { script: `${load} ignore(model.forward(long())); model.dispose();`, ends: true },
  capture: { script: `${load} ignore(model.captureAttention(long()));`, ends: true },
  gradients: {
    script: `${load} ignore(model.captureAttention(short(), { gradientOf: (output) => output.sum() }));`,
    ends: true,
  },
  'aborted run': { script: `${load} ignore(model.forward(long(), { signal: AbortSignal.timeout(5) }));`, ends: true },
  hook: {
    script: `${load} model.registerForwardHook('transformer.encoder.layers.0', never); ignore(model.forward(short()));`,
  },
  'hook that computes': {
    script: `${load} model.registerForwardHook('transformer.encoder.layers.0', async () => { await new Promise((r) => setTimeout(r, 50)); }); ignore(model.forward(short()));`,
    ends: true,
  },
  'attention handed over': { script: `${load} ignore(model.captureAttention(short(), { onAttention: never }));` },
  stream: {
    script: `${load} (async () => { for await (const each of model.captureAttentionStream(short())) await never(); })();`,
  },
  'stream of many': {
    script: `${load} (async () => { for await (const each of model.captureMany(Array(50).fill(short()))) each.output?.dispose?.(); })();`,
    ends: true,
  },
  'lent memory': {
    script: `${load} const lend = (shape) => Tensor.from(new Float32Array(shape.reduce((a, b) => a * b)), { shape, copy: false }); ignore(model.forward([lend([16, 400, width]), lend([16, 400, width])]));`,
    ends: true,
  },
  'shared memory': {
    script: `${load} const lend = (shape) => Tensor.from(new Float32Array(new SharedArrayBuffer(4 * shape.reduce((a, b) => a * b))), { shape, copy: false }); ignore(model.forward([lend([16, 400, width]), lend([16, 400, width])]));`,
    ends: true,
  },
  'lent memory and a hook': {
    script: `${load} model.registerForwardHook('', never); const lend = (shape) => Tensor.from(new Float32Array(shape.reduce((a, b) => a * b)), { shape, copy: false }); ignore(model.forward([lend([1, 3, width]), lend([1, 2, width])]));`,
  },
  'module of nn': {
    script: `const layer = new nn.TransformerEncoderLayer({ dModel: 64, nhead: 4 }); for (let i = 0; i < 10; i++) ignore(layer.forward(f32(200, 4, 64)));`,
    ends: true,
  },
};

/** How a process ends then: the statement, and the status or signal that is right. */
const ENDINGS = {
  'process.exit': { end: 'process.exit(7);', code: 7 },
  'process.exit(0)': { end: 'process.exit(0);', code: 0 },
  'process.exit in a handler of exit': { end: "process.on('exit', () => process.exit(9)); process.exit(3);", code: 9 },
  'uncaught exception': { end: "throw new Error('meant');", code: 1 },
  'unhandled rejection': { end: "Promise.reject(new Error('meant'));", code: 1 },
  SIGTERM: { end: "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 60_000);", signal: 'SIGTERM' },
  SIGINT: { end: "process.kill(process.pid, 'SIGINT'); setTimeout(() => {}, 60_000);", signal: 'SIGINT' },
  'handled SIGTERM': {
    end: "process.on('SIGTERM', () => process.exit(5)); process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 60_000);",
    code: 5,
  },
  'natural end': { end: '', code: 0, natural: true },
  'one more run in beforeExit': {
    end: `let once = true; process.on('beforeExit', () => { if (!once) return; once = false; ScriptModule.load(MODEL).then((model) => model.dispose()); });`,
    code: 0,
    natural: true,
  },
};

/** The same in a worker: what ends it, and the status of the process, which goes on for a while and runs a model. */
const WORKER_ENDINGS = {
  terminate: { inWorker: '', inMain: 'await worker.terminate();' },
  'process.exit in the worker': { inWorker: 'process.exit(3);', inMain: 'await over;' },
  'uncaught exception in the worker': { inWorker: "throw new Error('meant');", inMain: 'await over;' },
  'process.exit beside the worker': { inWorker: '', inMain: 'process.exit(0);' },
};

export async function runCase(seed, index, { tell }) {
  const random = new Random(seed, index);
  const [situation, { script, ends }] = random.pick(Object.entries(SITUATIONS));
  const delay = random.pick([0, 0, 1, 5, 20, 100, 300]);
  if (random.chance(0.35)) {
    const [ending, { inWorker, inMain }] = random.pick(Object.entries(WORKER_ENDINGS));
    tell(`worker with ${situation}, ${ending} after ${delay} ms`);
    const body = `${prelude} (async () => { ${script} require('node:worker_threads').parentPort.postMessage('begun'); setTimeout(() => { ${inWorker} }, ${delay}); })(); setInterval(() => {}, 1000);`;
    const main = `
      const { Worker } = require('node:worker_threads');
      const worker = new Worker(${JSON.stringify(body)}, { eval: true });
      const over = new Promise((resolve) => worker.on('error', () => {}).once('exit', resolve));
      await new Promise((resolve) => worker.once('message', resolve).once('exit', resolve));
      await new Promise((resolve) => setTimeout(resolve, ${inWorker ? 0 : delay}));
      ${inMain}
      ${load} await model.forward(short());`;
    return check(main, { code: 0 });
  }
  const endings = Object.entries(ENDINGS).filter(([, { natural }]) => ends || !natural);
  const [ending, expected] = random.pick(endings);
  tell(`${situation}, ${ending} after ${delay} ms`);
  const end = delay === 0 ? expected.end : `setTimeout(() => { ${expected.end} }, ${delay});`;
  return check(`${script} ${end}`, expected);
}

/** Runs a script in a process of its own and compares how it ends. */
async function check(script, { code: expectedCode = null, signal: expectedSignal = null }) {
  const child = spawn(process.execPath, ['-e', `${prelude}(async () => {${script}})();`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (chunk) => {
    errors = (errors + chunk).slice(-1000);
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, SECONDS * 1000);
  const { code, signal } = await new Promise((resolve) =>
    child.on('close', (code, signal) => resolve({ code, signal })),
  );
  clearTimeout(timer);
  if (late) throw new Fault('hung', `no end within ${SECONDS} s`);
  if (code === expectedCode && signal === expectedSignal) return 'ran';
  const crashed = signal !== null && signal !== expectedSignal;
  throw new Fault(
    crashed ? 'crashed' : 'wrong',
    `ended with ${signal ?? code} instead of ${expectedSignal ?? expectedCode}: ${errors}`,
  );
}
