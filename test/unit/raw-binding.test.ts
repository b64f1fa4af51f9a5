import { readFileSync } from 'node:fs';
import {
  binding,
  type NativeCaptureOptions,
  type NativeModel,
  type NativeRequest,
  type NativeRunOptions,
  type NativeTensor,
} from '../../lib/core/binding';
import { bytesPerElement, DTYPE_NAMES } from '../../lib/core/dtype';
import { path as modelPath } from './model-fixtures';
import { archiveOf } from './script-archive';

// The raw addon, as a slip of the layer above would call it: every argument of every function, in every position, is
// replaced by every kind of wrong value. Each has to be an error with a code; the process has to live.

const addon = binding();

/** What can stand anywhere by mistake. */
const VALUES = {
  undefined: undefined,
  null: null,
  boolean: true,
  zero: 0,
  negative: -1,
  fraction: 1.5,
  NaN: Number.NaN,
  huge: 1e300,
  bigint: 5n,
  string: 'nonsense',
  symbol: Symbol('nonsense'),
  function: () => undefined,
  object: {},
  array: [],
  'array of nonsense': [Symbol('nonsense')],
  'array of arrays': [[]],
  'typed array': new Float32Array(3),
  'an object of another class of the addon': new addon.NativeCancellation(false, undefined, undefined),
  'an object of another prototype': Object.create(addon.NativeTensor.prototype),
  'a proxy that throws': new Proxy(
    {},
    {
      get() {
        throw new Error('trap');
      },
      ownKeys() {
        throw new Error('trap');
      },
    },
  ),
} as const;
type Kind = keyof typeof VALUES;

/** One argument, or a member of one, and what may stand there. */
interface Place {
  path: [number, ...string[]];
  fits?: Kind[];
}

interface Case {
  args: () => unknown[];
  call: (...args: never[]) => unknown;
  places: Place[];
}

const tensor = (shape: number[] = [2, 3]): NativeTensor => addon.NativeTensor.zeros(shape, 'float32', 'cpu');

/** What a call fails with; undefined where it doesn't. */
async function failureOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return undefined;
}

function withValue(args: unknown[], [index, ...members]: Place['path'], value: unknown): unknown[] {
  const changed = [...args];
  if (members.length === 0) {
    changed[index] = value;
    return changed;
  }
  const root = { ...(changed[index] as Record<string, unknown>) };
  changed[index] = root;
  let object: Record<string, unknown> = root;
  for (const member of members.slice(0, -1)) {
    const inner = { ...(object[member] as Record<string, unknown>) };
    object[member] = inner;
    object = inner;
  }
  object[members.at(-1) as string] = value;
  return changed;
}

/** What is left out may be left out as undefined. */
const optional = (path: Place['path'], ...fits: Kind[]): Place => ({ path, fits: ['undefined', ...fits] });
const required = (path: Place['path'], ...fits: Kind[]): Place => ({ path, fits });
const flags = (index: number, ...names: string[]): Place[] => names.map((name) => optional([index, name], 'boolean'));

let model: NativeModel;
let encoder: NativeModel;

const LAYER = {
  dModel: 8,
  nhead: 2,
  dimFeedforward: 16,
  dropout: 0,
  activation: 'relu',
  layerNormEps: 1e-5,
  batchFirst: true,
  normFirst: false,
  bias: true,
};
const SIZE: Kind[] = [];
const NUMBER: Kind[] = ['zero', 'negative', 'fraction', 'NaN', 'huge'];
const layerPlaces = (index: number): Place[] => [
  ...['dModel', 'nhead', 'dimFeedforward'].map((name) => required([index, name], ...SIZE)),
  ...['dropout', 'layerNormEps'].map((name) => required([index, name], ...NUMBER)),
  required([index, 'activation']),
  ...flags(index, 'batchFirst', 'normFirst', 'bias'),
];
const create = (type: string, options: object, places: Place[], parts: () => object = () => ({})): Case => ({
  args: () => [type, options, parts()],
  call: addon.createNnModule as never,
  places: [
    required([0]),
    required([1]),
    required([2], ...((Object.keys(parts()).length === 0 ? EMPTY : []) as Kind[])),
    ...places,
  ],
});
/** Objects without anything in them. */
const EMPTY: Kind[] = [
  'object',
  'typed array',
  'an object of another class of the addon',
  'an object of another prototype',
];
const layer = (): NativeModel => addon.createNnModule('TransformerEncoderLayer', LAYER, {});
const decoderLayer = (): NativeModel => addon.createNnModule('TransformerDecoderLayer', LAYER, {});

const RUN: Place[] = [
  ...flags(1, 'grad', 'insideHook', 'needWeights'),
  optional([1, 'cancellation'], 'an object of another class of the addon'),
];
/** The arguments of a run without a capture behind its inputs and their options. */
const REQUEST: Place[] = [
  optional([2]),
  optional([3], 'boolean'),
  optional([4], 'boolean'),
  optional([5], 'an object of another class of the addon'),
];
const CAPTURE: Place[] = [
  ...RUN,
  optional([1, 'layers'], 'array'),
  optional([1, 'heads'], 'array'),
  optional([1, 'queries'], 'array'),
  optional([1, 'topK']),
  optional([1, 'maxBytes']),
  optional([1, 'onAttention'], 'function'),
  optional([1, 'statistics'], 'array'),
  optional([1, 'dtype']),
  ...flags(
    1,
    'averageHeads',
    'weights',
    'scores',
    'logSumExp',
    'exact',
    'sameDevice',
    'mayMiss',
    'sitesOnly',
    'gradients',
  ),
];
const nnOptions = () => ({ inputNames: ['src'], named: {} });
const nnPlaces: Place[] = [required([0]), required([1]), required([1, 'inputNames']), required([1, 'named'], ...EMPTY)];
const nnInput = (): unknown[] => [tensor([1, 3, 8])];

const cases: Record<string, () => Case> = {
  'NativeTensor.from': () => ({
    args: () => [new Float32Array(6), [2, 3], 'float32', 'cpu'],
    call: addon.NativeTensor.from as never,
    places: [required([0]), required([1]), required([2]), required([3])],
  }),
  'NativeTensor.on': () => ({
    args: () => [new Float32Array(new SharedArrayBuffer(24)), [2, 3], 'float32'],
    call: addon.NativeTensor.on as never,
    places: [required([0]), required([1]), required([2])],
  }),
  'NativeTensor.zeros': () => ({
    args: () => [[2, 3], 'float32', 'cpu'],
    call: addon.NativeTensor.zeros as never,
    places: [required([0], 'array'), required([1]), required([2])],
  }),
  'NativeTensor#setRequiresGrad': () => ({
    args: () => [true],
    call: ((value: boolean) => tensor().setRequiresGrad(value)) as never,
    places: [required([0], 'boolean')],
  }),
  'NativeTensor#to': () => ({
    args: () => ['cpu', 'float64'],
    call: ((device: string, dtype: string) => tensor().to(device, dtype)) as never,
    places: [optional([0]), optional([1])],
  }),
  'NativeTensor#backward': () => ({
    args: () => [tensor([])],
    call: ((gradient: NativeTensor) => {
      const leaf = tensor([]);
      leaf.setRequiresGrad(true);
      return leaf.apply('mul', 2).backward(gradient);
    }) as never,
    places: [optional([0])],
  }),
  ...Object.fromEntries(
    (
      [
        ['select', [0, 1], ['zero', 'negative'], ['zero', 'negative']],
        ['narrow', [0, 1, 1], ['zero', 'negative'], ['zero', 'negative'], ['zero']],
        ['reshape', [[3, 2]], []],
        ['transpose', [0, 1], ['zero', 'negative'], ['zero', 'negative']],
        ['sum', [0], ['undefined', 'zero', 'negative']],
        ['mean', [0], ['undefined', 'zero', 'negative']],
        ['softmax', [0], ['zero', 'negative']],
        ['argmax', [0], ['undefined', 'zero', 'negative']],
        ['add', [1], NUMBER],
        ['mul', [1], NUMBER],
      ] as [string, unknown[], ...Kind[][]][]
    ).map(([operation, args, ...fits]) => [
      `NativeTensor#apply(${operation})`,
      (): Case => ({
        args: () => [operation, ...args],
        call: ((...given: [string, ...unknown[]]) => tensor().apply(...given)) as never,
        places: [required([0]), ...args.map((_, i) => required([i + 1], ...(fits[i] ?? [])))],
      }),
    ]),
  ),
  'new NativeCancellation': () => ({
    args: () => [true, 5, 5],
    call: ((...args: [boolean, number, number]) => new addon.NativeCancellation(...args)) as never,
    places: [required([0], 'boolean'), optional([1], 'zero', 'fraction', 'huge'), optional([2], 'zero')],
  }),
  'new NativeHook': () => ({
    args: () => ['pre', () => undefined, ''],
    call: ((...args: [string, () => undefined, string]) => new addon.NativeHook(...args)) as never,
    places: [required([0]), optional([1], 'function'), required([2], 'string')],
  }),
  loadScriptModule: () => ({
    args: () => [readFileSync(modelPath('encoder_relu.pt')), { device: 'cpu' }],
    call: addon.loadScriptModule as never,
    places: [
      required([0]),
      required([1]),
      required([1, 'device']),
      optional([1, 'dtype']),
      ...flags(1, 'optimize', 'fuse', 'untrusted', 'verify'),
      optional([1, 'cancellation'], 'an object of another class of the addon'),
    ],
  }),
  'NativeModel#run of nn': () => ({
    args: () => [nnInput(), nnOptions()],
    call: ((...args: NativeRequest) => encoder.run(...args)) as never,
    places: [...nnPlaces, ...REQUEST],
  }),
  'NativeModel#runBlocking of nn': () => ({
    args: () => [nnInput(), nnOptions()],
    call: ((...args: NativeRequest) => encoder.runBlocking(...args)) as never,
    places: [...nnPlaces, ...REQUEST],
  }),
  'NativeModel#capture of nn': () => ({
    args: () => [nnInput(), nnOptions()],
    call: ((...args: [unknown[], object]) => encoder.capture(...args)) as never,
    places: [...nnPlaces, ...CAPTURE],
  }),
  'NativeModel#captureTensors of nn': () => ({
    args: () => [nnInput(), nnOptions()],
    call: ((...args: [unknown[], object]) => encoder.captureTensors(...args)) as never,
    places: [
      ...nnPlaces,
      ...RUN,
      optional([1, 'modules'], 'array'),
      optional([1, 'operator']),
      optional([1, 'occurrence'], 'zero'),
      optional([1, 'maxBytes']),
      ...flags(1, 'sameDevice', 'sameDtype'),
    ],
  }),
  'NativeModel#run of a checkpoint': () => ({
    args: () => [[tensor([3, 7, 16])]],
    call: ((...args: NativeRequest) => model.run(...args)) as never,
    places: [required([0]), ...REQUEST],
  }),
  'NativeModel#runBlocking of a checkpoint': () => ({
    args: () => [[tensor([3, 7, 16])]],
    call: ((...args: NativeRequest) => model.runBlocking(...args)) as never,
    places: [required([0]), ...REQUEST],
  }),
  'NativeModel#signature': () => ({
    args: () => ['forward'],
    call: ((method: string) => model.signature(method)) as never,
    places: [required([0])],
  }),
  'NativeModel#to': () => ({
    args: () => ['cpu'],
    call: ((device: string) => model.to(device)) as never,
    places: [required([0])],
  }),
  'NativeModel#addHook': () => ({
    args: () => ['', new addon.NativeHook('pre', undefined, '')],
    call: ((...args: [string, never]) => model.addHook(...args)) as never,
    places: [required([0]), required([1])],
  }),
  'NativeModel#removeHook': () => ({
    args: () => ['', new addon.NativeHook('pre', undefined, '')],
    call: ((...args: [string, never]) => model.removeHook(...args)) as never,
    places: [required([0], 'string'), required([1])],
  }),
  attentionRollout: () => ({
    args: () => [[tensor([1, 2, 3, 3])], 'mean'],
    call: addon.attentionRollout as never,
    places: [required([0]), required([1])],
  }),
  attentionRelevance: () => ({
    args: () => [[tensor([1, 2, 3, 3])], [tensor([1, 2, 3, 3])]],
    call: addon.attentionRelevance as never,
    places: [required([0]), required([1])],
  }),
  stackRows: () => ({
    args: () => [[[tensor(), tensor()]], 0],
    call: addon.stackRows as never,
    places: [required([0], 'array'), required([1], ...NUMBER)],
  }),
  'createNnModule(LayerNorm)': () =>
    create('LayerNorm', { size: 4, eps: 1e-5, bias: true }, [
      required([1, 'size']),
      required([1, 'eps'], ...NUMBER),
      ...flags(1, 'bias'),
    ]),
  'createNnModule(MultiheadAttention)': () =>
    create('MultiheadAttention', { embedDim: 8, numHeads: 2, dropout: 0, kdim: 8, vdim: 8 }, [
      ...['embedDim', 'numHeads', 'kdim', 'vdim'].map((name) => required([1, name])),
      required([1, 'dropout'], ...NUMBER),
      ...flags(1, 'bias', 'addBiasKv', 'addZeroAttn', 'batchFirst'),
    ]),
  'createNnModule(TransformerEncoderLayer)': () => create('TransformerEncoderLayer', LAYER, layerPlaces(1)),
  'createNnModule(TransformerDecoderLayer)': () => create('TransformerDecoderLayer', LAYER, layerPlaces(1)),
  'createNnModule(TransformerEncoder)': () =>
    create(
      'TransformerEncoder',
      { numLayers: 1 },
      [required([1, 'numLayers']), ...flags(1, 'enableNestedTensor'), required([2, 'layer']), optional([2, 'norm'])],
      () => ({ layer: layer() }),
    ),
  'createNnModule(TransformerDecoder)': () =>
    create(
      'TransformerDecoder',
      { numLayers: 1 },
      [required([1, 'numLayers']), required([2, 'layer']), optional([2, 'norm'])],
      () => ({ layer: decoderLayer() }),
    ),
  'createNnModule(Transformer)': () =>
    create('Transformer', { ...LAYER, numEncoderLayers: 1, numDecoderLayers: 1 }, [
      ...layerPlaces(1),
      required([1, 'numEncoderLayers']),
      required([1, 'numDecoderLayers']),
      optional([2, 'customEncoder']),
      optional([2, 'customDecoder']),
    ]),
  'createNnModule(TransformerModel)': () =>
    create('TransformerModel', { ...LAYER, dInput: 4, dOutput: 2, nlayers: 1 }, [
      ...layerPlaces(1),
      ...['dInput', 'dOutput', 'nlayers'].map((name) => required([1, name])),
    ]),
  loadNnParameters: () => ({
    args: () => [encoder, ['linear1.bias'], [tensor([16])]],
    call: addon.loadNnParameters as never,
    places: [required([0]), required([1]), required([2])],
  }),
  isTraining: () => ({ args: () => [encoder], call: addon.isTraining as never, places: [required([0])] }),
  needsWeights: () => ({ args: () => [encoder], call: addon.needsWeights as never, places: [required([0])] }),
  train: () => ({
    args: () => [encoder, false],
    call: addon.train as never,
    places: [required([0]), required([1], 'boolean')],
  }),
  setNeedWeights: () => ({
    args: () => [encoder, false],
    call: addon.setNeedWeights as never,
    places: [required([0]), required([1], 'boolean')],
  }),
  setNumThreads: () => ({
    args: () => [addon.getNumThreads()],
    call: addon.setNumThreads as never,
    places: [required([0])],
  }),
  setConcurrency: () => ({
    args: () => [addon.getConcurrency()],
    call: addon.setConcurrency as never,
    places: [required([0])],
  }),
  manualSeed: () => ({
    args: () => [1],
    call: addon.manualSeed as never,
    places: [required([0], 'zero', 'negative')],
  }),
};

beforeAll(async () => {
  model = await addon.loadScriptModule(modelPath('encoder_relu.pt'), {
    device: 'cpu',
    optimize: false,
    untrusted: false,
    verify: false,
    cancellation: undefined,
  });
  encoder = layer();
  addon.train(encoder, false);
});

const CODED = expect.objectContaining({ code: expect.stringMatching(/^ERR_/) });
const TRAPPED = expect.objectContaining({ message: 'trap' });

describe.each(Object.entries(cases))('%s', (_, made) => {
  it('does what it is there for', async () => {
    const { args, call } = made();
    await expect(failureOf(() => call(...(args() as never[])))).resolves.toBeUndefined();
  });

  it('refuses each wrong value in each place, with a code', async () => {
    const { args, call, places } = made();
    const wrong: string[] = [];
    for (const { path, fits = [] } of places) {
      for (const [kind, value] of Object.entries(VALUES)) {
        if (fits.includes(kind as Kind)) continue;
        const failure = await failureOf(() => call(...(withValue(args(), path, value) as never[])));
        const refused = [CODED, TRAPPED].some((expected) => expected.asymmetricMatch(failure));
        if (!refused) wrong.push(`${kind} at ${path.join('.')}: ${failure ?? 'was taken'}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('refuses fewer arguments than it needs, with a code', async () => {
    const { args, call, places } = made();
    const needed = places.filter(({ path, fits }) => path.length === 1 && !fits?.includes('undefined')).length;
    for (let count = 0; count < needed; ++count) {
      await expect(failureOf(() => call(...(args().slice(0, count) as never[])))).resolves.toEqual(CODED);
    }
  });
});

describe('tables of the addon', () => {
  it('have the element types of the layer above, as large as there', () => {
    const known = DTYPE_NAMES.map((name) => ({ name, bytes: bytesPerElement(name) }));
    expect(addon.tables().dtypes).toEqual(known);
  });

  it('have the options of a capture that the layer above knows', () => {
    const known = {
      layers: true,
      heads: true,
      queries: true,
      averageHeads: true,
      onAttention: true,
      topK: true,
      weights: true,
      scores: true,
      logSumExp: true,
      statistics: true,
      sameDevice: true,
      dtype: true,
      exact: true,
      sitesOnly: true,
      gradients: true,
      mayMiss: true,
      maxBytes: true,
    } satisfies Record<Exclude<keyof NativeCaptureOptions, keyof NativeRunOptions>, true>;
    expect(new Set(addon.tables().captureOptions)).toEqual(new Set(Object.keys(known)));
  });
});

describe('classes of the addon', () => {
  it.each(['NativeTensor', 'NativeScriptObject', 'NativeModel', 'NativeGradients'] as const)(
    '%s is made by the addon alone',
    (name) => {
      const made = (addon as unknown as Record<string, new () => unknown>)[name]!;
      expect(() => new made()).toThrow(/Illegal constructor/);
    },
  );

  it('have methods for their own objects alone', () => {
    const { shape } = addon.NativeTensor.prototype;
    for (const receiver of [undefined, null, {}, encoder, addon.NativeTensor.prototype]) {
      expect(() => shape.call(receiver as never)).toThrow();
    }
  });

  it('say that an object was disposed', async () => {
    const gone = tensor();
    gone.dispose();
    const disposed = layer();
    disposed.dispose();
    const DISPOSED = expect.objectContaining({ code: 'ERR_DISPOSED' });
    expect(await failureOf(() => gone.shape())).toEqual(DISPOSED);
    expect(await failureOf(() => gone.data())).toEqual(DISPOSED);
    expect(await failureOf(() => addon.stackRows([[gone]], 0))).toEqual(DISPOSED);
    expect(await failureOf(() => disposed.run(nnInput(), nnOptions()))).toEqual(DISPOSED);
    expect(await failureOf(() => disposed.modules())).toEqual(DISPOSED);
    expect(await failureOf(() => addon.train(disposed, true))).toEqual(DISPOSED);
    await expect(disposed.settled()).resolves.toBeUndefined();
  });

  it('give gradients for a scalar alone', async () => {
    const { gradients } = await encoder.capture(nnInput(), { ...nnOptions(), gradients: true });
    for (const value of Object.values(VALUES)) {
      expect(await failureOf(() => gradients?.of(value as never, undefined))).toEqual(CODED);
    }
  });
});

test('pairs that stand for a Map are checked one by one', async () => {
  const archive = archiveOf(`def forward(self: __torch__.M, x: Dict[bool, int], y: Any) -> int:
  return 1`);
  const flags = await addon.loadScriptModule(archive, {
    device: 'cpu',
    optimize: false,
    untrusted: false,
    verify: false,
    cancellation: undefined,
  });
  const pairs = (...given: unknown[]) => Object.assign(given, { [Symbol.for('libtorch-attention.pairs')]: true });
  expect(await flags.run([pairs([true, 1]), pairs([1, 2])], {})).toBe(1);
  const refused = async (...inputs: unknown[]): Promise<void> => {
    expect(await failureOf(() => flags.run(inputs, {}))).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  };
  for (const value of [...Object.values(VALUES), [true], [true, 1, 2], pairs(), pairs([true, 1])]) {
    await refused(pairs(value), null);
    await refused(pairs(), pairs(value));
    if (value !== true) await refused(pairs([value, 1]), null);
  }
  flags.dispose();
});
