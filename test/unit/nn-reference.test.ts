import { type Attention, manualSeed, nn, setNumThreads, Tensor } from '../../lib/index';
import { arranged, difference, Fixture, numbers } from './nn-fixtures';

const TOLERANCE = 1e-5;

// Tensors this small are slower on more threads.
beforeAll(() => setNumThreads(1));

const BOOLEANS = [false, true];
const FLAGS = BOOLEANS.flatMap((batchFirst) =>
  BOOLEANS.flatMap((normFirst) =>
    BOOLEANS.flatMap((gelu) => BOOLEANS.map((bias) => ({ batchFirst, normFirst, gelu, bias }))),
  ),
);
type Flags = (typeof FLAGS)[number];

function label({ batchFirst, normFirst, gelu, bias }: Flags): string {
  const word = (name: string, on: boolean): string => (on ? name : `no_${name}`);
  return [word('batch_first', batchFirst), word('norm_first', normFirst), word('gelu', gelu), word('bias', bias)].join(
    '_',
  );
}

function layerOptions(dModel: number, { batchFirst, normFirst, gelu, bias }: Flags): nn.TransformerLayerOptions {
  const activation = gelu ? 'gelu' : 'relu';
  return {
    dModel,
    nhead: 2,
    dimFeedforward: 6,
    dropout: 0.3,
    activation,
    layerNormEps: 1e-4,
    batchFirst,
    normFirst,
    bias,
  };
}

function concatenated(attentions: readonly Attention[]): Float32Array {
  const parts = attentions.map(({ weights }) => numbers(weights));
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function wholeTransformer() {
  const expected = await Fixture.read('more');
  const transformer = new nn.Transformer({
    dModel: 8,
    nhead: 2,
    numEncoderLayers: 2,
    numDecoderLayers: 2,
    dimFeedforward: 16,
    dropout: 0.4,
    batchFirst: true,
  });
  await transformer.loadStateDict(expected.state('transformer.'));
  const padding = expected.tensor('padding');
  const masks = { tgtMask: expected.tensor('causal'), srcKeyPaddingMask: padding, memoryKeyPaddingMask: padding };
  return { transformer, expected, src: expected.tensor('src'), tgt: expected.tensor('tgt'), masks };
}

describe('nn.TransformerEncoder#forward', () => {
  describe('encoders', () => {
    test.each(FLAGS)('equal PyTorch with every mask: %o', async (flags) => {
      const word = (name: string, on: boolean): string => (on ? name : `no_${name}`);
      const inputs = await Fixture.read('encoder_inputs');
      const expected = await Fixture.read(
        `encoder_${word('batch_first', flags.batchFirst)}_${word('norm_first', flags.normFirst)}`,
      );
      const layer = new nn.TransformerEncoderLayer(layerOptions(8, flags));
      const norm = new nn.LayerNorm(8, { bias: flags.bias });
      const encoder = new nn.TransformerEncoder(layer, 2, { norm }).eval();
      await encoder.loadStateDict(inputs.state('state.'), { strict: flags.bias });
      const src = arranged(inputs.tensor('src'), !flags.batchFirst);

      let index = 0;
      for (const maskKind of inputs.list('masks')) {
        for (const paddingKind of inputs.list('paddings')) {
          const where = `${maskKind}, ${paddingKind}`;
          const srcMask = inputs.mask('mask', maskKind);
          const srcKeyPaddingMask = inputs.mask('padding', paddingKind);
          const flagged = maskKind.startsWith('causal') ? [undefined, true] : [undefined];
          for (const isCausal of flagged) {
            const masks = {
              ...(srcMask && { srcMask }),
              ...(srcKeyPaddingMask && { srcKeyPaddingMask }),
              ...(isCausal && { isCausal }),
            };
            const plain = await encoder.forward(src, masks);
            const { output, attentions } = await encoder.captureAttention([src], masks);
            expect([where, numbers(output)]).toEqual([where, numbers(plain)]);
            const received = numbers(arranged(output, !flags.batchFirst).reshape([2, 4, 8]));
            expect([where, difference(received, expected.slice(`${label(flags)}.output`, index)) <= TOLERANCE]).toEqual(
              [where, true],
            );
            expect(attentions.map(({ name }) => name)).toEqual(['layers.0.self_attn', 'layers.1.self_attn']);
            // The last query of the first sequence is padding: without it the fast path computes nothing.
            const isPadding = (i: number): boolean => Math.floor(i / 32) % 2 === 0 && Math.floor(i / 4) % 4 === 3;
            const skip = paddingKind === 'bool' || paddingKind === 'float';
            const weights = expected.slice(`${label(flags)}.weights`, index);
            const worst = difference(concatenated(attentions), weights, (i) => !skip || !isPadding(i));
            expect([where, worst <= TOLERANCE]).toEqual([where, true]);
          }
          index++;
        }
      }
      expect(index).toBe(35);
    });
  });
});

describe('nn.TransformerDecoder#forward', () => {
  describe('decoders', () => {
    test.each(FLAGS)('equal PyTorch with every mask: %o', async (flags) => {
      const inputs = await Fixture.read('decoder_inputs');
      const expected = await Fixture.read(`decoder_${flags.batchFirst ? '' : 'no_'}batch_first`);
      const layer = new nn.TransformerDecoderLayer(layerOptions(4, flags));
      const decoder = new nn.TransformerDecoder(layer, 1, { norm: new nn.LayerNorm(4, { bias: flags.bias }) }).eval();
      await decoder.loadStateDict(inputs.state('state.'), { strict: flags.bias });
      const tgt = arranged(inputs.tensor('tgt'), !flags.batchFirst);
      const memory = arranged(inputs.tensor('memory'), !flags.batchFirst);

      let index = 0;
      for (const maskKind of inputs.list('masks')) {
        for (const memoryMaskKind of inputs.list('memory_masks')) {
          for (const [paddingKind, memoryPaddingKind] of inputs.list<[string, string]>('paddings')) {
            const where = `${maskKind}, ${memoryMaskKind}, ${paddingKind}, ${memoryPaddingKind}`;
            const masks: Record<string, Tensor | undefined> = {
              tgtMask: inputs.mask('mask', maskKind),
              memoryMask: inputs.mask('memory_mask', memoryMaskKind),
              tgtKeyPaddingMask: inputs.mask('padding', paddingKind),
              memoryKeyPaddingMask: inputs.mask('memory_padding', memoryPaddingKind),
            };
            const plain = await decoder.forward(tgt, memory, masks as nn.DecoderForwardOptions);
            const { output, attentions } = await decoder.captureAttention([tgt, memory], masks);
            expect([where, numbers(output)]).toEqual([where, numbers(plain)]);
            const received = numbers(arranged(output, !flags.batchFirst).reshape([2, 3, 4]));
            const worst = [
              difference(received, expected.slice(`${label(flags)}.output`, index)),
              difference(concatenated(attentions.slice(0, 1)), expected.slice(`${label(flags)}.self`, index)),
              difference(concatenated(attentions.slice(1)), expected.slice(`${label(flags)}.cross`, index)),
            ];
            expect([where, worst.map((each) => each <= TOLERANCE)]).toEqual([where, [true, true, true]]);
            expect(attentions.map(({ name }) => name)).toEqual(['layers.0.self_attn', 'layers.0.multihead_attn']);
            index++;
          }
        }
      }
      expect(index).toBe(45);
    });
  });
});

describe('nn.MultiheadAttention#forward', () => {
  describe('MultiheadAttention', () => {
    const combinations = ['same_sizes', 'other_sizes'].flatMap((kind) =>
      BOOLEANS.flatMap((bias) =>
        BOOLEANS.flatMap((batchFirst) =>
          BOOLEANS.flatMap((addBiasKv) =>
            BOOLEANS.map((addZeroAttn) => ({ kind, bias, batchFirst, addBiasKv, addZeroAttn })),
          ),
        ),
      ),
    );
    test.each(combinations)('equals PyTorch with every mask: %o', async ({ kind, ...flags }) => {
      const inputs = await Fixture.read('attention_inputs');
      const sizes = kind === 'other_sizes' ? { kdim: 5, vdim: 6 } : {};
      const attention = new nn.MultiheadAttention({ embedDim: 4, numHeads: 2, ...sizes, ...flags }).eval();
      await attention.loadStateDict(inputs.state(`${kind}.state.`), { strict: false });
      const where = `${kind}.${[flags.bias, flags.batchFirst, flags.addBiasKv, flags.addZeroAttn].map(Number).join('')}`;
      const query = arranged(inputs.tensor('query'), !flags.batchFirst);
      const cross = [inputs.tensor(`${kind}.key`), inputs.tensor(`${kind}.value`)].map((t) =>
        arranged(t, !flags.batchFirst),
      );

      for (const what of kind === 'same_sizes' ? ['cross', 'self'] : ['cross']) {
        const expected = await Fixture.read(`attention_${kind}_${what}`);
        const group = what === 'self' ? 'self_' : '';
        const [key, value] = what === 'self' ? [query, query] : (cross as [Tensor, Tensor]);
        let index = 0;
        for (const maskKind of inputs.list(`${group}masks`)) {
          for (const paddingKind of inputs.list(`${group}paddings`)) {
            const masks: Record<string, unknown> = {
              attnMask: inputs.mask(`${group}mask`, maskKind),
              keyPaddingMask: inputs.mask(`${group}padding`, paddingKind),
            };
            const label = `${what}, ${maskKind}, ${paddingKind}`;
            const without = await attention.forward(query, key, value, { ...masks, needWeights: false });
            const withThem = await attention.forward(query, key, value, { ...masks, averageAttnWeights: false });
            const mean = await attention.forward(query, key, value, masks);
            const captured = await attention.captureAttention([query, key, value], { ...masks, needWeights: true });
            expect(without.weights).toBeUndefined();
            for (const other of [withThem, mean, captured.output]) {
              expect([label, numbers(other.output)]).toEqual([label, numbers(without.output)]);
            }
            expect(captured.attentions).toHaveLength(1);
            const weights = expected.slice(`${where}.${what}.weights`, index);
            const output = numbers(arranged(without.output, !flags.batchFirst).reshape([2, 3, 4]));
            const worst = [
              difference(output, expected.slice(`${where}.${what}.output`, index)),
              difference(numbers(withThem.weights as Tensor), weights),
              difference(numbers(captured.attentions[0]?.weights as Tensor), weights),
              difference(numbers(mean.weights as Tensor), numbers((withThem.weights as Tensor).mean(1))),
            ];
            expect([label, worst.map((each) => each <= TOLERANCE)]).toEqual([label, [true, true, true, true]]);
            index++;
          }
        }
        expect(index).toBe(what === 'self' ? 28 : 20);
      }
    });
  });
});

describe('forward of every module of nn', () => {
  describe('a flag that says that a mask is causal', () => {
    const SIZES = { dModel: 4, nhead: 2, dimFeedforward: 6, dropout: 0, batchFirst: true };
    const attention = (more = {}) => new nn.MultiheadAttention({ embedDim: 4, numHeads: 2, batchFirst: true, ...more });
    const MAKE: Record<string, () => nn.Module<Tensor | nn.AttentionOutput>> = {
      attention: () => attention(),
      attention_bias_kv: () => attention({ addBiasKv: true }),
      attention_zero: () => attention({ addZeroAttn: true }),
      attention_bias_kvzero: () => attention({ addBiasKv: true, addZeroAttn: true }),
      encoder_layer: () => new nn.TransformerEncoderLayer(SIZES),
      encoder: () => new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 2),
      decoder_layer: () => new nn.TransformerDecoderLayer(SIZES),
      decoder: () => new nn.TransformerDecoder(new nn.TransformerDecoderLayer(SIZES), 2),
      transformer: () => new nn.Transformer({ ...SIZES, numEncoderLayers: 1, numDecoderLayers: 1 }),
    };
    const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    const run = (module: nn.Module<unknown>, inputs: Tensor[], options: object) =>
      (module as unknown as { forward(...all: unknown[]): Promise<Tensor | nn.AttentionOutput> }).forward(
        ...inputs,
        options,
      );

    test('gives what PyTorch gives beside its mask; without one it is refused wherever PyTorch heeds it', async () => {
      const expected = await Fixture.read('causal_flags');
      const [x, memory, causal] = ['x', 'memory', 'causal'].map((name) => expected.tensor(name)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const cases = expected.list<[string, string, string, boolean, boolean, string]>('cases');
      let ignored = 0;
      for (const [kind, mask, flag, training, grad, without] of cases) {
        const module = (MAKE[kind] as () => nn.Module<Tensor | nn.AttentionOutput>)();
        await module.loadStateDict(expected.state(`${kind}.state.`));
        module.train(training);
        const inputs = kind.startsWith('attention') ? [x, x, x] : kind.startsWith('encoder') ? [x] : [x, memory];
        const names = { mask: mask === 'mask' ? 'srcMask' : camel(mask), flag: camel(flag) };
        const where = `${kind}.${flag}.${Number(training)}${Number(grad)}`;
        for (const needWeights of [false, true]) {
          const need = kind.startsWith('attention') ? { needWeights } : {};
          module.setNeedWeights(needWeights);
          const result = await run(module, inputs, { [names.mask]: causal, [names.flag]: true, grad, ...need });
          const output = result instanceof Tensor ? result : result.output;
          const worst = difference(numbers(output), numbers(expected.tensor(where)));
          expect([where, needWeights, worst <= TOLERANCE]).toEqual([where, needWeights, true]);
          // Where a fused kernel runs PyTorch attends to everything, flag or not: nobody can want that.
          await expect(run(module, inputs, { [names.flag]: true, grad, ...need })).rejects.toMatchObject({
            code: 'ERR_INVALID_ARGUMENT',
            message: expect.stringMatching(new RegExp(`${names.mask} beside ${names.flag}: true.* received none`)),
          });
        }
        if (without === 'ignored') ignored++;
        else expect(without).toBe('refused');
      }
      expect([cases.length, ignored]).toEqual([52, 7]);
    });
  });
});

describe('manualSeed', () => {
  describe('what PyTorch draws', () => {
    test('a seed gives the same initial values', async () => {
      const expected = await Fixture.read('more');
      manualSeed(7);
      const sizes = { dModel: 4, nhead: 2, dimFeedforward: 6 };
      const made: Record<string, nn.Module<unknown>> = {
        encoder_layer: new nn.TransformerEncoderLayer(sizes),
        decoder_layer: new nn.TransformerDecoderLayer(sizes),
        attention: new nn.MultiheadAttention({ embedDim: 4, numHeads: 2, addBiasKv: true, kdim: 3, vdim: 5 }),
        transformer: new nn.Transformer({ ...sizes, numEncoderLayers: 1, numDecoderLayers: 1 }),
        encoder: new nn.TransformerEncoder(new nn.TransformerEncoderLayer(sizes), 2),
      };
      for (const [kind, module] of Object.entries(made)) {
        const drawn = expected.state(`drawn.${kind}.`);
        const own = module.stateDict();
        expect([kind, Object.keys(own).sort()]).toEqual([kind, Object.keys(drawn).sort()]);
        for (const [name, tensor] of Object.entries(own)) {
          expect([kind, name, numbers(tensor)]).toEqual([kind, name, numbers(drawn[name] as Tensor)]);
        }
      }
    });

    test('modules made of another while a run draws its dropout change nothing of it', async () => {
      const { transformer } = await wholeTransformer();
      transformer.train();
      const long = (length: number) =>
        Tensor.from(new Float32Array(2 * length * 8).fill(0.5), { shape: [2, length, 8] });
      const layer = new nn.TransformerEncoderLayer({ dModel: 8, nhead: 2, dimFeedforward: 16, batchFirst: true });
      const run = async (meanwhile: () => void) => {
        manualSeed(11);
        const done = transformer.forward(long(400), long(300));
        let ended = false;
        void done.finally(() => {
          ended = true;
        });
        let rounds = 0;
        while (!ended) {
          meanwhile();
          ++rounds;
          await new Promise((resolve) => setImmediate(resolve));
        }
        return { output: numbers(await done), rounds };
      };
      const alone = await run(() => {});
      const beside = await run(() => void new nn.TransformerEncoder(layer, 2));
      expect(beside.rounds).toBeGreaterThan(1);
      expect(beside.output).toEqual(alone.output);
    });

    test('a seed gives the same dropout, run after run', async () => {
      const { transformer, src, tgt, masks, expected } = await wholeTransformer();
      transformer.train();
      for (let repeat = 0; repeat < 2; repeat++) {
        manualSeed(11);
        const first = await transformer.forward(src, tgt, masks);
        const { output: second } = await transformer.captureAttention([src, tgt], masks);
        expect(difference(numbers(first), numbers(expected.tensor('training_output')))).toBeLessThan(TOLERANCE);
        expect(difference(numbers(second), numbers(expected.tensor('training_output_next')))).toBeLessThan(TOLERANCE);
      }
    });
  });
});

describe('nn.Transformer#forward', () => {
  describe('Transformer', () => {
    test('equals PyTorch, with padding and a causal mask', async () => {
      const { transformer, src, tgt, masks, expected } = await wholeTransformer();
      transformer.eval();
      const { output, attentions } = await transformer.captureAttention([src, tgt], masks);
      expect(numbers(output)).toEqual(numbers(await transformer.forward(src, tgt, masks)));
      expect(difference(numbers(output), numbers(expected.tensor('transformer_output')))).toBeLessThan(TOLERANCE);
      expect(attentions.map(({ name }) => name)).toEqual([
        'encoder.layers.0.self_attn',
        'encoder.layers.1.self_attn',
        'decoder.layers.0.self_attn',
        'decoder.layers.0.multihead_attn',
        'decoder.layers.1.self_attn',
        'decoder.layers.1.multihead_attn',
      ]);
      for (const [i, { name, weights }] of attentions.entries()) {
        const padded = (index: number): boolean =>
          name.startsWith('encoder') && Math.floor(index / 50) === 1 && Math.floor(index / 5) % 5 > 2;
        const worst = difference(
          numbers(weights),
          numbers(expected.tensor(`transformer_weights.${i}`)),
          (k) => !padded(k),
        );
        expect([name, worst <= TOLERANCE]).toEqual([name, true]);
      }
    });

    test('takes inputs without a batch', async () => {
      const { transformer, src, tgt, masks, expected } = await wholeTransformer();
      transformer.eval();
      const { output, attentions } = await transformer.captureAttention([src.select(0, 0), tgt.select(0, 0)], {
        tgtMask: masks.tgtMask,
      });
      expect(difference(numbers(output), numbers(expected.tensor('unbatched_output')))).toBeLessThan(TOLERANCE);
      for (const [i, { weights }] of attentions.entries()) {
        expect(difference(numbers(weights), numbers(expected.tensor(`unbatched_weights.${i}`)))).toBeLessThan(
          TOLERANCE,
        );
      }
    });

    test('runs custom encoders and decoders, with the hooks that sit on them', async () => {
      const { transformer, src, tgt, expected } = await wholeTransformer();
      const options = { dModel: 8, nhead: 2, dimFeedforward: 16, batchFirst: true };
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(options), 2, {
        norm: new nn.LayerNorm(8),
      });
      const decoder = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(options), 2, {
        norm: new nn.LayerNorm(8),
      });
      const own = new nn.Transformer({ ...options, customEncoder: encoder, customDecoder: decoder }).eval();
      await own.loadStateDict(expected.state('transformer.'));
      transformer.eval();
      expect(numbers(await own.forward(src, tgt))).toEqual(numbers(await transformer.forward(src, tgt)));
      const names: string[] = [];
      encoder.registerForwardHook('layers.1', ({ name }) => void names.push(name));
      await own.forward(src, tgt);
      expect(names).toEqual(['encoder.layers.1']);
    });
  });
});

describe('nn.TransformerModel#forward', () => {
  describe('the default TransformerModel', () => {
    /** Values that the script which made the reference computes too. */
    function formula(index: number, shape: readonly number[]): Float32Array {
      const count = shape.reduce((product, size) => product * size, 1);
      const scale = shape.length === 2 ? 2 * Math.sqrt(3 / ((shape[0] as number) + (shape[1] as number))) : 0.1;
      const start = 104729 * (index + 1);
      const values = new Float32Array(count);
      for (let i = 0; i < count; i++) values[i] = (((i * 7919 + start) % 65521) / 65521 - 0.5) * scale;
      return values;
    }

    test('has 2048 features, 8 heads, 512 hidden, 12 layers, and equals PyTorch', async () => {
      const expected = await Fixture.read('default_model');
      const model = new nn.TransformerModel({
        dInput: expected.number('dInput'),
        dOutput: expected.number('dOutput'),
      }).eval();
      const names = model
        .namedParameters()
        .map(({ name }) => name)
        .sort();
      expect(names).toHaveLength(12 * 12 + 4);
      const parameters = model.stateDict();
      for (const [index, name] of names.entries()) {
        const { shape } = parameters[name] as Tensor;
        const values = formula(index, shape);
        const isScale = name.includes('norm') && name.endsWith('weight');
        const data = isScale ? values.map((value) => Math.fround(value + 1)) : values;
        await model.loadStateDict({ [name]: Tensor.from(data, { shape: [...shape] }) }, { strict: false });
      }
      const src = expected.tensor('src');
      const length = src.shape[0] as number;
      const hidden = Array.from({ length }, (_, q) => Array.from({ length }, (_, k) => k > q));
      for (const [kind, srcMask] of [
        ['plain', undefined],
        ['causal', Tensor.from(hidden, { dtype: 'bool' })],
      ] as const) {
        const { output, attentions } = await model.captureAttention([src], { srcMask });
        expect(difference(numbers(output), numbers(expected.tensor(`${kind}.output`)))).toBeLessThan(TOLERANCE);
        expect(attentions).toHaveLength(12);
        expect(difference(concatenated(attentions), numbers(expected.tensor(`${kind}.weights`)))).toBeLessThan(
          TOLERANCE,
        );
      }
      model.dispose();
    });
  });
});
