import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import fc from 'fast-check';
import { FIXTURES, ramp } from './corpus.mjs';
import { hostileValue, Thrown } from './hostile-values.mjs';
import { Fault, isExpected } from './outcome.mjs';

// Calls of every public function, with right arguments of which some are replaced by wrong ones.

const torch = createRequire(import.meta.url)('../../dist/index.js');
const { Tensor, ScriptModule, HookedModel, nn } = torch;

export const title = 'arguments of public functions';
export const share = 0.2;
export const count = 20_000;
export const batch = 500;

const MODEL = join(FIXTURES, 'models', 'two_of_a_class_script.pt');
const HEADS = { dModel: 4, nhead: 2 };
const SIZES = { ...HEADS, dimFeedforward: 4 };
/** A call that hasn't ended by then is left behind: what is asked of it can take long. */
const PATIENCE_MS = 20_000;
const capture = () => ({
  layers: [0],
  heads: [0],
  queries: [0],
  topK: 2,
  device: 'cpu',
  dtype: 'float32',
  maxBytes: 1e6,
});

/** What calls are made on; what was disposed, moved or hooked by a call is made anew. */
let world;

export async function setUp() {
  torch.setNumThreads(1);
  process.removeAllListeners('warning');
  process.on('warning', () => {}); // hooks that didn't fire
  world = await makeWorld();
}

async function makeWorld() {
  const script = await ScriptModule.load(MODEL);
  const inputs = script.signature().parameters.map(() => ramp([2, 3, 16]));
  const encoderLayer = new nn.TransformerEncoderLayer({ ...SIZES, batchFirst: true });
  const decoderLayer = new nn.TransformerDecoderLayer({ ...SIZES, batchFirst: true });
  const { attentions } = await encoderLayer.captureAttention([ramp([1, 3, 4])]);
  return {
    script,
    inputs,
    attentions,
    encoderLayer,
    decoderLayer,
    encoder: new nn.TransformerEncoder(encoderLayer, 2),
    decoder: new nn.TransformerDecoder(decoderLayer, 1),
    attention: new nn.MultiheadAttention({ embedDim: 4, numHeads: 2, batchFirst: true }),
    transformer: new nn.Transformer({ ...SIZES, numEncoderLayers: 1, numDecoderLayers: 1, batchFirst: true }),
    model: new nn.TransformerModel({ ...HEADS, dInput: 3, dOutput: 2, dHid: 4, nlayers: 1, batchFirst: true }),
    norm: new nn.LayerNorm(4),
    hooked: new HookedModel(encoderLayer),
  };
}

const src = () => ramp([1, 3, 4]);
const mask = () => Tensor.zeros([3, 3]);
const padding = () => Tensor.zeros([1, 3], { dtype: 'bool' });

/** What `captureAttention` and its siblings are called with, on any model. */
const captures = (name, on, positional, named = {}) => [
  [`${name}.forward`, (w) => [on(w), 'forward', positional(w), { ...named }]],
  [`${name}.attentionSites`, (w) => [on(w), 'attentionSites', positional(w), {}]],
  [`${name}.captureAttention`, (w) => [on(w), 'captureAttention', positional(w), { ...capture(), ...named }]],
  [
    `${name}.captureAttention with gradients`,
    (w) => [on(w), 'captureAttention', positional(w), { gradientOf: (output) => firstTensor(output).sum() }],
  ],
  [
    `${name}.captureAttention handing over`,
    (w) => [on(w), 'captureAttention', positional(w), { onAttention: () => {} }],
  ],
  [`${name}.captureAttentionStream`, (w) => [on(w), 'captureAttentionStream', positional(w), { ...capture() }]],
  [
    `${name}.captureMany`,
    (w) => [
      on(w),
      'captureMany',
      [positional(w), { inputs: positional(w) }],
      { ahead: 1, onProgress: () => {}, topK: 1 },
    ],
  ],
  [`${name}.registerForwardPreHook`, (w) => [on(w), 'registerForwardPreHook', '', () => undefined]],
  [`${name}.registerForwardHook`, (w) => [on(w), 'registerForwardHook', '', () => undefined]],
  [`${name}.registerFullBackwardHook`, (w) => [on(w), 'registerFullBackwardHook', '', () => undefined]],
  [`${name}.to`, (w) => [on(w), 'to', 'cpu']],
  [`${name}.modules`, (w) => [on(w), 'modules']],
  [`${name}.namedParameters`, (w) => [on(w), 'namedParameters']],
  [`${name}.stateDict`, (w) => [on(w), 'stateDict']],
];

const modules = (name, on) => [
  [`${name}.train`, (w) => [on(w), 'train', true]],
  [`${name}.eval`, (w) => [on(w), 'eval']],
  [`${name}.setNeedWeights`, (w) => [on(w), 'setNeedWeights', true]],
  [`${name}.loadStateDict`, (w) => [on(w), 'loadStateDict', on(w).stateDict(), { prefix: '', strict: true }]],
];

const copies = (objects) => objects.map((each) => ({ ...each }));
const firstTensor = (value) => (value instanceof Tensor ? value : (value.output ?? Object.values(value)[0]));
const tensor =
  (shape = [2, 3]) =>
  () =>
    ramp(shape);
const method = (name, ...args) => [
  `Tensor.${name}`,
  () => [ramp([2, 3]), name, ...args.map((each) => (typeof each === 'function' ? each() : each))],
];

const construct = (Class, ...args) => [
  `new ${Class.name}`,
  (w) => [{ make: (...given) => new Class(...given) }, 'make', ...args.map((each) => each(w))],
];
const call = (name, ...args) => [name, (w) => [torch, name, ...args.map((each) => each(w))]];

/** [name, what gives [object, method, …right arguments]] */
const CALLS = [
  [
    'Tensor.from',
    () => [
      Tensor,
      'from',
      [
        [1, 2],
        [3, 4],
      ],
      { shape: [4], dtype: 'float32', device: 'cpu', copy: true },
    ],
  ],
  ['Tensor.from typed', () => [Tensor, 'from', new Float32Array(6), { shape: [2, 3], dtype: 'float32' }]],
  ['Tensor.from shared', () => [Tensor, 'from', new Float32Array(6), { shape: [2, 3], copy: false }]],
  [
    'Tensor.from complex',
    () => [
      Tensor,
      'from',
      [
        [1, 2],
        [3, 4],
      ],
      { shape: [2], dtype: 'complex64' },
    ],
  ],
  ['Tensor.from uint64', () => [Tensor, 'from', [1n, 2n], { dtype: 'uint64' }]],
  ['Tensor.zeros', () => [Tensor, 'zeros', [2, 3], { dtype: 'int64', device: 'cpu' }]],
  method('select', 0, 1),
  method('narrow', 1, 0, 2),
  method('reshape', () => [3, 2]),
  method('transpose', 0, 1),
  method('sum', 1),
  method('mean', 0),
  method('softmax', 1),
  method('argmax', 1),
  method('add', tensor()),
  method('mul', 2),
  method('to', () => ({ dtype: 'float64', device: 'cpu' })),
  method('backward', tensor()),
  method('item'),
  method('toTypedArray'),
  method('data'),
  method('dispose'),
  ['Tensor.requiresGrad', () => [{ set: (value) => (ramp([2]).requiresGrad = value) }, 'set', true]],
  [
    'ScriptModule.load',
    () => [ScriptModule, 'load', MODEL, { device: 'cpu', dtype: 'float32', optimize: false, fuse: false }],
  ],
  ['ScriptModule.load bytes', () => [ScriptModule, 'load', new Uint8Array(readFileSync(MODEL)), { device: 'cpu' }]],
  ...captures(
    'ScriptModule',
    (w) => w.script,
    (w) => w.inputs.slice(),
    { method: 'forward' },
  ),
  ['ScriptModule.signature', (w) => [w.script, 'signature', 'forward']],
  ['ScriptModule.methods', (w) => [w.script, 'methods']],
  ['ScriptModule.warmUp', (w) => [w.script, 'warmUp', w.inputs.slice(), { grad: false }]],
  [
    'ScriptModule.captureGeneration',
    (w) => [
      w.script,
      'captureGeneration',
      w.inputs.slice(),
      (_output, step) => (step < 1 ? w.inputs : undefined),
      { topK: 1 },
    ],
  ],
  ['ScriptModule.dispose', async () => [await ScriptModule.load(MODEL), 'dispose']],
  ...captures(
    'TransformerEncoderLayer',
    (w) => w.encoderLayer,
    () => [src()],
  ),
  ...modules('TransformerEncoderLayer', (w) => w.encoderLayer),
  ...[
    ['TransformerEncoderLayer', (w) => w.encoderLayer],
    ['TransformerEncoder', (w) => w.encoder],
  ].map(([name, on]) => [
    `${name}.forward`,
    (w) => [on(w), 'forward', src(), { srcMask: mask(), srcKeyPaddingMask: padding(), isCausal: false, grad: false }],
  ]),
  [
    'TransformerDecoder.forward',
    (w) => [
      w.decoder,
      'forward',
      src(),
      src(),
      { tgtMask: mask(), memoryKeyPaddingMask: padding(), tgtIsCausal: false },
    ],
  ],
  ['TransformerDecoderLayer.forward', (w) => [w.decoderLayer, 'forward', src(), src(), { memoryMask: mask() }]],
  ['Transformer.forward', (w) => [w.transformer, 'forward', src(), src(), { srcMask: mask(), tgtMask: mask() }]],
  [
    'MultiheadAttention.forward',
    (w) => [
      w.attention,
      'forward',
      src(),
      src(),
      src(),
      { keyPaddingMask: padding(), attnMask: mask(), needWeights: true, averageAttnWeights: false, isCausal: false },
    ],
  ],
  [
    'MultiheadAttention.captureAttention',
    (w) => [w.attention, 'captureAttention', [src(), src(), src()], { ...capture() }],
  ],
  ['TransformerModel.forward', (w) => [w.model, 'forward', ramp([1, 3, 3]), { srcMask: mask() }]],
  ['LayerNorm.forward', (w) => [w.norm, 'forward', src(), { grad: true }]],
  ...modules('Transformer', (w) => w.transformer),
  ...modules('MultiheadAttention', (w) => w.attention),
  construct(nn.TransformerEncoderLayer, () => ({
    ...SIZES,
    dropout: 0.1,
    activation: 'gelu',
    batchFirst: true,
    normFirst: false,
    layerNormEps: 1e-5,
    bias: true,
  })),
  construct(nn.TransformerDecoderLayer, () => ({ ...SIZES, dropout: 0, activation: 'relu' })),
  construct(
    nn.TransformerEncoder,
    (w) => w.encoderLayer,
    () => 1,
    (w) => ({ norm: w.norm, enableNestedTensor: false }),
  ),
  construct(
    nn.TransformerDecoder,
    (w) => w.decoderLayer,
    () => 1,
    (w) => ({ norm: w.norm }),
  ),
  construct(nn.Transformer, (w) => ({
    ...SIZES,
    numEncoderLayers: 1,
    numDecoderLayers: 1,
    customEncoder: w.encoder,
    batchFirst: true,
  })),
  construct(nn.TransformerModel, () => ({ ...HEADS, dInput: 3, dOutput: 2, dHid: 4, nlayers: 1 })),
  construct(nn.MultiheadAttention, () => ({
    embedDim: 4,
    numHeads: 2,
    kdim: 4,
    vdim: 4,
    addBiasKv: true,
    addZeroAttn: true,
    dropout: 0,
  })),
  construct(
    nn.LayerNorm,
    () => 4,
    () => ({ eps: 1e-5, bias: true }),
  ),
  construct(HookedModel, (w) => w.encoderLayer),
  [
    'HookedModel.setForwardHook',
    (w) => [new HookedModel(w.encoderLayer), 'setForwardHook', 'a', 'self_attn', (_m, i, o) => [i, o]],
  ],
  ['HookedModel.setForwardPreHook', (w) => [new HookedModel(w.script), 'setForwardPreHook', 'a', '', (_m, i) => i]],
  [
    'HookedModel.setBackwardHook',
    (w) => [new HookedModel(w.encoderLayer), 'setBackwardHook', 'a', '', (_m, i, o) => [i, o]],
  ],
  ['HookedModel.delHook', (w) => [w.hooked, 'delHook', 'a']],
  call('getOutputAndAttentionWeights', (w) => w.encoder, src, mask),
  call(
    'attentionRollout',
    (w) => copies(w.attentions),
    () => ({ headFusion: 'max' }),
  ),
  call('attentionRelevance', (w) => w.attentions.map(({ weights }) => ({ weights, gradient: weights }))),
  call(
    'assembleAttention',
    (w) => [{ step: 0, attentions: copies(w.attentions) }],
    () => ({ keyOffset: () => 0 }),
  ),
  call('manualSeed', () => 1),
  call('setNumThreads', () => 1),
  call('setConcurrency', () => 1),
  ...['getNumThreads', 'getConcurrency', 'devices', 'releaseMemory']
    .filter((name) => torch[name])
    .map((name) => call(name)),
  // Hooks whose results are wrong.
  ['hook that returns', (w) => [{ run: (result) => runHooked(w.encoderLayer, result) }, 'run', undefined]],
  [
    'gradientOf that returns',
    (w) => [
      { run: (result) => w.encoderLayer.captureAttention([src()], { gradientOf: () => result }) },
      'run',
      undefined,
    ],
  ],
  [
    'onAttention that returns',
    (w) => [
      { run: (result) => w.encoderLayer.captureAttention([src()], { onAttention: () => result }) },
      'run',
      undefined,
    ],
  ],
];

async function runHooked(model, result) {
  const handle = model.registerForwardHook('self_attn', () => result);
  try {
    return await model.forward(src());
  } finally {
    handle.remove();
  }
}

/** A case: a call, and which of the places in its arguments get what. */
const caseOf = fc.record({
  call: fc.constantFrom(...CALLS),
  changes: fc.array(fc.record({ place: fc.nat(), value: hostileValue }), { minLength: 1, maxLength: 3 }),
});

/** All places in arguments whose value can be replaced: the arguments, and what plain objects and arrays in them hold. */
function placesIn(container, depth = 0) {
  return Object.keys(container).flatMap((key) => {
    const value = container[key];
    const isPlain =
      Array.isArray(value) ||
      (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype);
    return [{ container, key }, ...(isPlain && depth < 3 ? placesIn(value, depth + 1) : [])];
  });
}

export async function runCase(seed, index, { tell }) {
  const [
    {
      call: [name, make],
      changes,
    },
  ] = fc.sample(caseOf, { numRuns: 1, seed: Math.imul(seed, 1_000_003) + index });
  const [object, method, ...args] = await make(world);
  const about = [name];
  const places = placesIn(args);
  for (const { place, value } of changes) {
    if (places.length === 0 || place % 16 === 0) {
      args.push(value.make());
      about.push(`one more: ${value.label}`);
    } else {
      const { container, key } = places[place % places.length];
      container[key] = value.make();
      about.push(`${container === args ? 'argument ' : ''}${key}: ${value.label}`);
    }
  }
  tell(about.join(', '));
  const outcome = await outcomeOf(() => object[method](...args));
  if (world.script.disposed || world.encoderLayer.disposed || index % 50 === 0) world = await makeWorld();
  return outcome;
}

async function outcomeOf(work) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, PATIENCE_MS, 'late')));
  try {
    const done = await Promise.race([finish(work()), late]);
    if (done === 'late') throw new Fault('hung', `not settled within ${PATIENCE_MS / 1000} s`);
    return 'ran';
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (isOfCaller(error) || isExpected(error)) return 'refused';
    const detail =
      error instanceof Error
        ? `${error.name}: ${error.message.slice(0, 300)}\n${error.stack?.split('\n').slice(1, 4).join('\n')}`
        : `thrown: ${String(error)}`;
    throw new Fault('uncoded', detail);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether an error was thrown by what the caller gave, a signal's reason included. */
function isOfCaller(error) {
  return error instanceof Thrown || error?.name === 'TimeoutError';
}

/** Waits for promises, goes through streams, and removes hooks again. */
async function finish(result) {
  const value = await result;
  if (value instanceof torch.RemovableHandle) value.remove();
  if (typeof value?.[Symbol.asyncIterator] !== 'function') return;
  let left = 4;
  for await (const item of value) {
    if (item.error !== undefined && !isOfCaller(item.error) && !isExpected(item.error)) throw item.error;
    if (--left === 0) break;
  }
  await value.output?.catch?.(() => {});
}
