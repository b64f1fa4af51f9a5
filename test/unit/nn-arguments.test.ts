import { getOutputAndAttentionWeights, nn, setNumThreads, Tensor } from '../../lib/index';
import { numbers, ramp } from './nn-fixtures';

// Users err. Whatever they give, a module says which argument is wrong, what it should be and what it was.

beforeAll(() => setNumThreads(1));

const SIZES = { dModel: 8, nhead: 2, dimFeedforward: 16, batchFirst: true };
const encoderLayer = (more = {}) => new nn.TransformerEncoderLayer({ ...SIZES, ...more }).eval();
const decoderLayer = (more = {}) => new nn.TransformerDecoderLayer({ ...SIZES, ...more }).eval();

type Given = Record<string, unknown>;
const MAKE: Record<string, { make: (given: Given) => nn.Module<unknown>; valid: Given }> = {
  MultiheadAttention: {
    make: (given) => new nn.MultiheadAttention(given as never),
    valid: { embedDim: 8, numHeads: 2 },
  },
  TransformerEncoderLayer: { make: (given) => new nn.TransformerEncoderLayer(given as never), valid: SIZES },
  TransformerDecoderLayer: { make: (given) => new nn.TransformerDecoderLayer(given as never), valid: SIZES },
  Transformer: {
    make: (given) => new nn.Transformer(given as never),
    valid: { ...SIZES, numEncoderLayers: 1, numDecoderLayers: 1 },
  },
  TransformerModel: {
    make: (given) => new nn.TransformerModel(given as never),
    valid: { dInput: 3, dOutput: 2, dModel: 8, nhead: 2, dHid: 4, nlayers: 1 },
  },
  LayerNorm: { make: ({ size, ...rest }) => new nn.LayerNorm(size as number, rest as never), valid: { size: 8 } },
  TransformerEncoder: {
    make: ({ numLayers, ...rest }) => new nn.TransformerEncoder(encoderLayer(), numLayers as number, rest as never),
    valid: { numLayers: 1 },
  },
  TransformerDecoder: {
    make: ({ numLayers, ...rest }) => new nn.TransformerDecoder(decoderLayer(), numLayers as number, rest as never),
    valid: { numLayers: 1 },
  },
};

const COUNTS = [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '8', true, [8], 2 ** 53];
const BOOLEANS = [0, 1, 'true', null];
const PROBABILITIES = [-0.1, 1.1, Number.NaN, '0.1', true];
const EPSILONS = [-1e-5, 1, Number.NaN, '1e-5'];
const LAYER = {
  dropout: PROBABILITIES,
  activation: ['tanh', 'RELU', 1, null],
  layerNormEps: EPSILONS,
  batchFirst: BOOLEANS,
  normFirst: BOOLEANS,
  bias: BOOLEANS,
};
const WRONG: Record<string, Record<string, unknown[]>> = {
  MultiheadAttention: {
    embedDim: [...COUNTS, undefined],
    numHeads: [...COUNTS, undefined, 3],
    kdim: COUNTS,
    vdim: COUNTS,
    dropout: PROBABILITIES,
    bias: BOOLEANS,
    addBiasKv: BOOLEANS,
    addZeroAttn: BOOLEANS,
    batchFirst: BOOLEANS,
  },
  TransformerEncoderLayer: {
    dModel: [...COUNTS, undefined],
    nhead: [...COUNTS, undefined, 3],
    dimFeedforward: COUNTS,
    ...LAYER,
  },
  TransformerDecoderLayer: {
    dModel: [...COUNTS, undefined],
    nhead: [...COUNTS, undefined, 3],
    dimFeedforward: COUNTS,
    ...LAYER,
  },
  Transformer: {
    dModel: COUNTS,
    nhead: [...COUNTS, 3],
    dimFeedforward: COUNTS,
    ...LAYER,
    numEncoderLayers: COUNTS,
    numDecoderLayers: COUNTS,
    customEncoder: [{}, 1, encoderLayer(), new nn.LayerNorm(8)],
    customDecoder: [{}, 1, decoderLayer(), new nn.TransformerEncoder(encoderLayer(), 1)],
  },
  TransformerModel: {
    dInput: [...COUNTS, undefined],
    dOutput: [...COUNTS, undefined],
    dModel: COUNTS,
    nhead: [...COUNTS, 3],
    dHid: COUNTS,
    nlayers: COUNTS,
    ...LAYER,
  },
  LayerNorm: { size: [...COUNTS, undefined], eps: EPSILONS, bias: BOOLEANS },
  TransformerEncoder: {
    numLayers: [...COUNTS, undefined],
    norm: [{}, 8, encoderLayer()],
    enableNestedTensor: BOOLEANS,
  },
  TransformerDecoder: { numLayers: [...COUNTS, undefined], norm: [{}, 8, encoderLayer()] },
};

function invalid(pattern: RegExp | string, code = 'ERR_INVALID_ARGUMENT') {
  return expect.objectContaining({ code, message: expect.stringMatching(pattern) });
}

type Forward = { forward(...given: unknown[]): Promise<unknown> } & nn.Module<unknown>;
interface Call {
  module: Forward;
  /** Names and valid shapes of the inputs. */
  inputs: Record<string, number[]>;
  /** Names and valid shapes of the masks. */
  masks: Record<string, number[]>;
  /** Flags, each with the mask that it needs, if any. */
  flags: Record<string, string | undefined>;
}
const as = (module: nn.Module<unknown>): Forward => module as unknown as Forward;
const SELF = { srcMask: [5, 5], srcKeyPaddingMask: [2, 5] };
const DECODER = {
  masks: { tgtMask: [3, 3], memoryMask: [3, 5], tgtKeyPaddingMask: [2, 3], memoryKeyPaddingMask: [2, 5] },
  flags: { tgtIsCausal: 'tgtMask', memoryIsCausal: 'memoryMask' },
};
const CALLS: Record<string, Call> = {
  MultiheadAttention: {
    module: as(new nn.MultiheadAttention({ embedDim: 8, numHeads: 2, kdim: 4, vdim: 6, batchFirst: true }).eval()),
    inputs: { query: [2, 3, 8], key: [2, 5, 4], value: [2, 5, 6] },
    masks: { attnMask: [3, 5], keyPaddingMask: [2, 5] },
    flags: { isCausal: 'attnMask', needWeights: undefined, averageAttnWeights: undefined },
  },
  TransformerEncoderLayer: {
    module: as(encoderLayer()),
    inputs: { src: [2, 5, 8] },
    masks: SELF,
    flags: { isCausal: 'srcMask' },
  },
  TransformerEncoder: {
    module: as(new nn.TransformerEncoder(encoderLayer(), 1).eval()),
    inputs: { src: [2, 5, 8] },
    masks: SELF,
    flags: { isCausal: 'srcMask' },
  },
  TransformerModel: {
    module: as(new nn.TransformerModel({ dInput: 3, dOutput: 2, dModel: 8, nhead: 2, nlayers: 1, batchFirst: true })),
    inputs: { src: [2, 5, 3] },
    masks: SELF,
    flags: { isCausal: 'srcMask' },
  },
  TransformerDecoderLayer: {
    module: as(decoderLayer()),
    inputs: { tgt: [2, 3, 8], memory: [2, 5, 8] },
    ...DECODER,
  },
  TransformerDecoder: {
    module: as(new nn.TransformerDecoder(decoderLayer(), 1).eval()),
    inputs: { tgt: [2, 3, 8], memory: [2, 5, 8] },
    ...DECODER,
  },
  Transformer: {
    module: as(new nn.Transformer({ ...SIZES, numEncoderLayers: 1, numDecoderLayers: 1 }).eval()),
    inputs: { src: [2, 5, 8], tgt: [2, 3, 8] },
    masks: { ...DECODER.masks, ...SELF },
    flags: { ...DECODER.flags, srcIsCausal: 'srcMask' },
  },
  LayerNorm: { module: as(new nn.LayerNorm(8).eval()), inputs: { x: [2, 5, 8] }, masks: {}, flags: {} },
};

function disposed(...shape: number[]): Tensor {
  const tensor = ramp(...shape);
  expect(tensor.shape).toEqual(shape); // known before it is gone
  tensor.dispose();
  return tensor;
}
const encoder = new nn.TransformerEncoder(encoderLayer(), 1).eval();
const decoder = new nn.TransformerDecoder(decoderLayer(), 1).eval();

describe('constructors of nn', () => {
  describe.each(Object.entries(MAKE))('the options of %s', (kind, { make, valid }) => {
    test('are accepted where they are right', () => {
      expect(make(valid).modules()[0]?.type).toBe(kind);
    });

    test.each(Object.entries(WRONG[kind] ?? {}))('name %s where it is wrong', (name, values) => {
      for (const value of values) {
        expect(() => make({ ...valid, [name]: value })).toThrow(invalid(`^Expected .*\\b${name}\\b.* but received `));
      }
    });

    test('once disposed, the module says so', async () => {
      const gone = make(valid);
      gone.dispose();
      const uses: (() => unknown)[] = [
        () => gone.train(),
        () => gone.eval(),
        () => gone.training,
        () => gone.modules(),
        () => gone.namedParameters(),
        () => gone.stateDict(),
        () => gone.setNeedWeights(),
        () => gone.registerForwardHook('', () => {}),
      ];
      for (const use of uses) expect(use).toThrow(invalid('live module', 'ERR_DISPOSED'));
      const rejects = [gone.to('cpu'), gone.loadStateDict({}), gone.save('never-written.safetensors')];
      for (const each of rejects) await expect(each).rejects.toEqual(invalid('live module', 'ERR_DISPOSED'));
    });

    test('that nobody knows are refused by name', () => {
      expect(() => make({ ...valid, dmodel: 8 })).toThrow(
        invalid(/^Expected one of the options .* received 'dmodel'$/),
      );
    });
  });

  describe('options of modules', () => {
    test.each<[string, () => unknown]>([
      ['encoder layer', () => new nn.TransformerEncoderLayer(null as never)],
      ['decoder layer', () => new nn.TransformerDecoderLayer([] as never)],
      ['attention', () => new nn.MultiheadAttention('8' as never)],
      ['transformer', () => new nn.Transformer(5 as never)],
      ['model', () => new nn.TransformerModel(null as never)],
      ['norm', () => new nn.LayerNorm(8, 1e-5 as never)],
      ['encoder', () => new nn.TransformerEncoder(encoderLayer(), 1, new nn.LayerNorm(8) as never)],
      ['decoder', () => new nn.TransformerDecoder(decoderLayer(), 1, null as never)],
    ])('have to be an object: %s', (_, make) => {
      expect(make).toThrow(invalid(/the options of/));
    });

    test('too large for this machine are refused before it runs out of memory', () => {
      const makes: [() => unknown, RegExp][] = [
        [() => encoderLayer({ dModel: 2 ** 24 }), /dModel 16777216/],
        [() => decoderLayer({ dimFeedforward: 2 ** 45 }), /dimFeedforward/],
        [() => new nn.TransformerEncoder(encoderLayer(), 2 ** 40), /numLayers/],
        [() => new nn.TransformerDecoder(decoderLayer(), 2 ** 40), /numLayers/],
        [() => new nn.Transformer({ ...SIZES, numDecoderLayers: 2 ** 40 }), /numDecoderLayers/],
        [() => new nn.TransformerModel({ dInput: 2 ** 40, dOutput: 1 }), /dInput/],
        [() => new nn.TransformerModel({ dInput: 1, dOutput: 1, nlayers: 2 ** 40 }), /nlayers/],
        [() => new nn.MultiheadAttention({ embedDim: 8, numHeads: 1, kdim: 2 ** 50 }), /kdim/],
        [() => new nn.LayerNorm(2 ** 52), /size/],
      ];
      for (const [make, message] of makes) expect(make).toThrow(invalid(message));
      expect(makes[0]?.[0]).toThrow(invalid(/parameters fit into .* GB, the memory of this machine, but received/));
    });

    test('that are modules have to fit and to be alive', () => {
      const other = new nn.TransformerEncoder(encoderLayer({ dModel: 4 }), 1);
      const sequenceFirst = new nn.TransformerDecoder(decoderLayer({ batchFirst: false }), 1);
      const given = { ...SIZES, numEncoderLayers: 1, numDecoderLayers: 1 };
      expect(() => new nn.Transformer({ ...given, customEncoder: other })).toThrow(
        invalid(/customEncoder .* dModel \(8\) .* 4/),
      );
      expect(() => new nn.Transformer({ ...given, customDecoder: sequenceFirst })).toThrow(
        invalid(/customDecoder .* batchFirst \(true\) .* false/),
      );
      const gone = <Disposed extends nn.Module<unknown>>(module: Disposed): Disposed => {
        module.dispose();
        return module;
      };
      const makes: [() => unknown, RegExp][] = [
        [() => new nn.TransformerEncoder(gone(encoderLayer()), 1), /TransformerEncoderLayer for layer/],
        [() => new nn.TransformerDecoder(gone(decoderLayer()), 1), /TransformerDecoderLayer for layer/],
        [() => new nn.TransformerEncoder(encoderLayer(), 1, { norm: gone(new nn.LayerNorm(8)) }), /LayerNorm for norm/],
        [() => new nn.Transformer({ ...given, customEncoder: gone(other) }), /TransformerEncoder for customEncoder/],
      ];
      for (const [make, message] of makes) expect(make).toThrow(invalid(message, 'ERR_DISPOSED'));
    });

    test('make no module without a class', () => {
      const Bare = nn.Module as unknown as new (...given: unknown[]) => object;
      expect(() => new Bare()).toThrow(invalid(/classes of nn/));
      expect(() => new (class Own extends Bare {})('Own', {})).toThrow(invalid(/class of nn but received 'Own'/));
    });
  });
});

describe('forward and captureAttention', () => {
  describe.each(Object.entries(CALLS))('forward and captures of %s', (_, { module, inputs, masks, flags }) => {
    const valid = Object.values(inputs).map((shape) => ramp(...shape));
    const captures = !('x' in inputs); // a LayerNorm has no attention

    /** Both ways to run a module refuse the same. */
    async function refused(given: unknown[], options: Given, pattern: RegExp | string, code?: string): Promise<void> {
      await expect(module.forward(...given, options)).rejects.toEqual(invalid(pattern, code));
      await expect(module.captureAttention(given as Tensor[], options)).rejects.toEqual(invalid(pattern, code));
    }

    test('take what is right', async () => {
      const options = Object.fromEntries(Object.entries(masks).map(([name, shape]) => [name, ramp(...shape).mul(0)]));
      await module.forward(...valid, options);
      if (captures) await module.captureAttention(valid, options);
    });

    test.each(Object.entries(inputs))('name %s where it is wrong', async (name, shape) => {
      const at = Object.keys(inputs).indexOf(name);
      const withIt = (value: unknown): unknown[] => valid.map((each, i) => (i === at ? value : each));
      for (const value of [undefined, null, 1, 'src', [[1]], {}, new Float32Array(8)]) {
        await refused(withIt(value), {}, `^Expected a Tensor for ${name} but received `);
      }
      const features = shape.at(-1) as number;
      for (const wrong of [[], [features], [2, 5, features + 1], [1, 2, 5, features], [2, 5, 0]]) {
        await refused(
          withIt(ramp(...wrong)),
          {},
          `^Expected .*${features}\\].* for ${name} .*\\[${wrong.join(', ')}\\]$`,
        );
      }
      for (const dtype of ['float64', 'float16', 'bfloat16', 'int64', 'int32', 'bool'] as const) {
        const typed = ramp(...shape).to({ dtype });
        await refused(withIt(typed), {}, `^Expected a float32 tensor .* for ${name} but received ${dtype} `);
      }
      await refused(withIt(disposed(...shape)), {}, `^Expected a live tensor for ${name} `, 'ERR_DISPOSED');
      if (at > 0) {
        await refused(withIt(ramp(3, ...shape.slice(1))), {}, /^Expected the batch of .* but received 3$/);
        await refused(withIt(ramp(...shape.slice(1))), {}, /^Expected the batch of .* but received none$/);
      }
    });

    for (const [name, shape] of Object.entries(masks)) {
      test(`name ${name} where it is wrong`, async () => {
        for (const value of [1, 'causal', true, [[true]], {}]) {
          await refused(valid, { [name]: value }, `^Expected a Tensor for ${name} but received `);
        }
        const [rows, columns] = shape as [number, number];
        const wrong = [
          [],
          [columns],
          [rows + 1, columns],
          [rows, columns + 1],
          [3, rows, columns],
          [1, 1, rows, columns],
        ];
        for (const other of wrong) {
          const message = `^Expected .*\\[${shape.join(', ')}\\].* for ${name} .*\\[${other.join(', ')}\\]$`;
          await refused(valid, { [name]: ramp(...other) }, message);
        }
        for (const dtype of ['float64', 'float16', 'int64', 'uint8'] as const) {
          await refused(valid, { [name]: ramp(...shape).to({ dtype }) }, `bool .*float32 .* for ${name} .*${dtype}`);
        }
        await refused(valid, { [name]: disposed(...shape) }, `^Expected a live tensor for ${name} `, 'ERR_DISPOSED');
      });
    }

    for (const [name, itsMask] of Object.entries(flags)) {
      test(`name ${name} where it is wrong`, async () => {
        for (const value of [0, 1, 'true', ...(itsMask ? [] : [null]), {}]) {
          await refused(valid, { [name]: value }, `^Expected a boolean for ${name} but received `);
        }
        if (itsMask) await refused(valid, { [name]: true }, `^Expected ${itsMask} beside ${name}: true`);
      });
    }

    test('name other options that are wrong, and those that nobody knows', async () => {
      await refused(valid, { mask: ramp(5, 5) }, /^Expected one of the options .* received 'mask'$/);
      await expect(module.forward(...valid, { grad: 1 })).rejects.toEqual(invalid(/boolean for grad/));
      await refused(valid, { signal: {} }, /AbortSignal for signal/);
      await expect(module.forward(...valid, 5)).rejects.toEqual(invalid(/an object for the options of forward .* 5/));
      await expect(module.captureAttention(valid, null as never)).rejects.toEqual(invalid(/captureAttention .* null/));
      await expect(module.captureAttention(valid, { method: 'forward' } as never)).rejects.toEqual(invalid(/'method'/));
    });

    test('want as many inputs as there are', async () => {
      const names = Object.keys(inputs).join(', ');
      for (const given of [[], [...valid, ramp(1)], undefined, valid[0], 'src']) {
        await expect(module.captureAttention(given as Tensor[])).rejects.toEqual(
          invalid(`^Expected an array of .*\\(${names}\\) for inputs but received `),
        );
      }
    });

    test('are refused once the module is disposed', async () => {
      module.dispose();
      await refused(valid, {}, 'live module', 'ERR_DISPOSED');
      await expect(module.attentionSites(valid)).rejects.toEqual(invalid('live module', 'ERR_DISPOSED'));
      for await (const { error } of module.captureMany([valid]) as AsyncIterable<{ error?: unknown }>) {
        expect(error).toEqual(invalid('live module', 'ERR_DISPOSED'));
      }
    });
  });

  const attention = new nn.MultiheadAttention({ embedDim: 8, numHeads: 2, kdim: 4, vdim: 6, batchFirst: true }).eval();

  describe('sequences', () => {
    test('of values and keys are equally long', async () => {
      await expect(attention.forward(ramp(2, 3, 8), ramp(2, 5, 4), ramp(2, 4, 6))).rejects.toEqual(
        invalid(/as many positions as the key has \(5\) for value but received 4/),
      );
    });

    test.each([
      ['without positions', [2, 0, 8]],
      ['without a batch element', [0, 5, 8]],
    ])('%s pass, with masks as well, fused or not', async (_, shape) => {
      const [batch, length] = shape as [number, number];
      const srcKeyPaddingMask = ramp(batch, length).to({ dtype: 'bool' });
      for (const training of [false, true]) {
        encoder.train(training);
        expect((await encoder.forward(ramp(...shape))).shape).toEqual(shape);
        expect((await encoder.forward(ramp(...shape), { srcKeyPaddingMask })).shape).toEqual(shape);
        const srcMask = ramp(length, length);
        expect((await encoder.forward(ramp(...shape), { srcMask, srcKeyPaddingMask })).shape).toEqual(shape);
      }
      encoder.eval();
      expect((await decoder.forward(ramp(...shape), ramp(batch, 3, 8))).shape).toEqual(shape);
    });

    test('of nothing but padding come out as padding does', async () => {
      const srcKeyPaddingMask = Tensor.from(new Uint8Array(10).fill(1), { shape: [2, 5], dtype: 'bool' });
      expect(numbers(await encoder.forward(ramp(2, 5, 8), { srcKeyPaddingMask }))).toEqual(new Float32Array(80));
    });
  });

  describe('types and devices', () => {
    test('parameters stay float32 whatever is loaded, and say so', async () => {
      for (const dtype of ['float64', 'bfloat16', 'float16'] as const) {
        const layer = encoderLayer();
        const before = layer.stateDict();
        const converted = Object.entries(before).map(([name, tensor]) => [name, tensor.to({ dtype })] as const);
        await encoderLayer().loadStateDict(Object.fromEntries(converted));
        await layer.loadStateDict(Object.fromEntries(converted));
        for (const { name, tensor } of layer.namedParameters()) expect([name, tensor.dtype]).toEqual([name, 'float32']);
        expect((await layer.forward(ramp(2, 5, 8))).dtype).toBe('float32');
      }
    });

    test('a device is a name, of one that is there', async () => {
      for (const device of [undefined, 0, { dtype: 'float64' }]) {
        await expect(encoder.to(device as never)).rejects.toEqual(invalid(/name of a device for device/));
      }
      await expect(encoder.to('gpu')).rejects.toEqual(invalid(/for device but received 'gpu'/));
      await expect(encoder.to('cuda:99')).rejects.toMatchObject({ code: 'ERR_DEVICE_UNAVAILABLE' });
      await encoder.to('cpu');
    });
  });
});

describe('other methods of nn.Module', () => {
  describe('other methods', () => {
    test.each<[string, () => unknown, RegExp]>([
      ['train', () => encoder.train('no' as never), /boolean for mode/],
      ['setNeedWeights', () => encoder.setNeedWeights(1 as never), /boolean for need/],
      ['a hook', () => encoder.registerForwardHook('', 5 as never), /function for hook/],
      ['a path', () => encoder.registerForwardHook(5 as never, () => {}), /dotted name of a module for path/],
    ])('name what is wrong: %s', (_, call, message) => {
      expect(call).toThrow(invalid(message));
    });

    test.each<[string, () => Promise<unknown>, RegExp]>([
      ['a source', () => encoder.loadStateDict(5 as never), /for source/],
      ['its options', () => encoder.loadStateDict({}, { prefix: 5 } as never), /string for prefix/],
      ['strict', () => encoder.loadStateDict({}, { strict: 'no' } as never), /boolean for strict/],
      ['a tensor of it', () => encoder.loadStateDict({ x: 5 } as never), /Tensor for source\['x'\]/],
      ['a path', () => encoder.save(5 as never), /path for path/],
      ['a model', () => getOutputAndAttentionWeights(decoder as never, ramp(2, 5, 8)), /TransformerModel.* for model/],
      ['its inputs', () => getOutputAndAttentionWeights(encoder, undefined as never), /Tensor for src/],
      ['its mask', () => getOutputAndAttentionWeights(encoder, ramp(2, 5, 8), ramp(4, 5)), /for srcMask/],
    ])('reject with what is wrong: %s', async (_, call, message) => {
      await expect(call()).rejects.toEqual(invalid(message));
    });

    test('a disposed tensor among parameters is named', async () => {
      await expect(encoder.loadStateDict({ x: disposed(8) })).rejects.toEqual(invalid(/source\['x'\]/, 'ERR_DISPOSED'));
    });
  });
});
