import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HookedModel, loadModel, loadOperators, setNumThreads, Tensor } from '../../dist/index.js';
import { exportedPrograms } from './corpus.mjs';
import { checkOrigin, tensorsIn, wordsOf } from './disclosure.mjs';
import { mutate } from './mutations.mjs';
import { attempt } from './outcome.mjs';
import { Random } from './random.mjs';

// Mutated programs of torch.export: loaded, looked at, run in every way, captured, hooked.

export const title = 'exported programs';
export const share = 0.25;
export const count = 10_000;
const TIME_LIMIT_MS = 2000;
const LIMITS = { timeLimit: TIME_LIMIT_MS, memoryLimit: 1e9 };
const MOST_HOOKS = 12;
/** Operators that some of the programs call. */
const OPERATORS = fileURLToPath(new URL('../../build/Release/test_operators.so', import.meta.url));

let corpus;

export function setUp() {
  setNumThreads(1);
  if (existsSync(OPERATORS)) loadOperators(OPERATORS);
  corpus = exportedPrograms();
}

/** The file of a case: { bytes, about, extension }. */
export function makeCase(seed, index) {
  const random = new Random(seed, index);
  const { path, bytes } = random.pick(corpus);
  const made = mutate(random, 'zip', bytes, random.pick(corpus).bytes);
  return { ...made, path, extension: '.pt2', about: `${path.split('/').at(-1)}: ${made.mutation}` };
}

export async function runCase(seed, index, { directory, made }) {
  const random = new Random(seed, index + 0x40000000);
  const { call } = corpus.find(({ path }) => path === made.path);
  const options = {
    ...(random.chance(0.3) ? { untrusted: true } : {}),
    ...(random.chance(0.3) ? { verify: true } : {}),
    ...(random.chance(0.2) ? { optimize: true } : {}),
    ...(random.chance(0.1) ? { dtype: 'bfloat16' } : {}),
    timeLimit: 5 * TIME_LIMIT_MS,
  };
  const words = made.contents && !options.dtype ? wordsOf(made.contents) : undefined;
  return attack(made.bytes, directory, { random, byPath: random.chance(0.5), options, call, words });
}

/** Runs a file that was kept. */
export async function runFile(bytes, { directory }) {
  const outcomes = [];
  for (const byPath of [true, false]) {
    for (const options of [{}, { untrusted: true }, { optimize: true }]) {
      const random = new Random(0);
      outcomes.push(await attack(bytes, directory, { random, byPath, options, call: corpus[0].call }));
    }
  }
  return outcomes.at(-1);
}

async function attack(bytes, directory, { random, byPath, options, call, words }) {
  const path = join(directory, 'case.pt2');
  if (byPath) writeFileSync(path, bytes);
  return attempt(async () => {
    const model = await loadModel(byPath ? path : bytes, options);
    try {
      model.modules();
      model.nodes?.();
      model.signature();
      for (const [name, tensor] of Object.entries(model.stateDict())) {
        const array = tensor.toTypedArray();
        if (words) checkOrigin(name, array, words);
      }
      const outcomes = await runs(model, random, await callOf(model, random, call));
      await model.settled();
      return outcomes.includes('refused') ? 'refused' : 'ran';
    } finally {
      model.dispose();
    }
  });
}

/** What the program takes as it was before, or as it says itself now. */
async function callOf(model, random, call) {
  if (random.chance(0.8) || !model.callOfLeaves) return call();
  const sizes = new Map();
  const sizeOf = (size) => {
    if (typeof size !== 'string') return size;
    if (!sizes.has(size)) sizes.set(size, random.between(0, 8));
    return sizes.get(size);
  };
  const leaves = model.signature().inputs.map(({ dtype, shape, constant }) => {
    if (constant !== undefined) return constant;
    const made = shape.map(sizeOf);
    if (made.reduce((count, size) => count * size, 1) > 1e6) return null;
    return zeros(made, dtype);
  });
  return model.callOfLeaves(leaves);
}

function zeros(shape, dtype) {
  try {
    return Tensor.zeros(shape, { dtype });
  } catch {
    return 1; // no tensor
  }
}

async function runs(model, random, { inputs, kwargs }) {
  const call = { kwargs, ...LIMITS };
  const outcomes = [];
  for (const run of [
    async () => read(await model.forward(inputs, call)),
    async () => read(await model.captureAttention(inputs, { ...call, maxBytes: 1e8 })),
    () => backward(model, inputs, call),
    () => hooked(model, random, inputs, call),
    () => read(model.forwardSync(inputs, call)),
  ]) {
    outcomes.push(await attempt(run));
  }
  return outcomes;
}

/** Reads every element of what a run gave. */
function read(value) {
  for (const tensor of tensorsIn(value)) tensor.toTypedArray();
}

async function backward(model, inputs, call) {
  const output = await model.forward(inputs, { ...call, grad: true });
  for (const tensor of tensorsIn(output)) {
    if (!tensor.requiresGrad) continue;
    await tensor.sum().backward(undefined, LIMITS);
    break;
  }
  for (const { tensor } of model.namedParameters()) tensor.grad?.toTypedArray();
}

/** Runs with hooks on modules and nodes, some of which replace what passes, and with recorders. */
async function hooked(model, random, inputs, call) {
  const handles = [];
  const put = async (register) => {
    await attempt(() => {
      handles.push(register());
    });
  };
  const change = (value) => {
    read(value);
    if (!(value instanceof Tensor) || !random.chance(0.3)) return undefined;
    return random.chance(0.8) ? value.mul(1) : Tensor.zeros([2]);
  };
  const recorded = new HookedModel(model);
  for (let i = 0; i < MOST_HOOKS; i++) {
    const { name } = random.pick(model.modules());
    await random.pick([
      () => put(() => model.registerForwardHook(name, (_module, given, output) => change(read(given) ?? output))),
      () => put(() => model.registerForwardPreHook(name, (_module, [first]) => change(first))),
      () => put(() => model.registerFullBackwardHook(name, (_module, given, output) => read([given, output]))),
      () => put(() => recorded.setForwardHook(`record ${i}`, name)),
      () => {
        const nodes = model.nodes?.() ?? [];
        if (nodes.length === 0) return undefined;
        return put(() => model.registerNodeHook(random.pick(nodes).name, (_node, value) => change(value)));
      },
    ])();
  }
  try {
    await attempt(() => backward(model, inputs, call));
    read(await model.captureAttention(inputs, { ...call, maxBytes: 1e8 }));
    read([...recorded.hooks.values()]);
  } finally {
    for (const handle of handles) handle.remove();
  }
}
