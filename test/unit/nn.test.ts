import { getOutputAndAttentionWeights, HookedModel, manualSeed, nn, setNumThreads, Tensor } from '../../lib/index';
import { difference, numbers, ramp } from './nn-fixtures';

// Tensors this small are slower on more threads.
beforeAll(() => setNumThreads(1));

const SIZES = { dModel: 8, nhead: 2, dimFeedforward: 16, batchFirst: true };

function makeModel(): nn.TransformerModel {
  manualSeed(1);
  return new nn.TransformerModel({
    dInput: 3,
    dOutput: 2,
    dModel: 8,
    nhead: 2,
    dHid: 16,
    nlayers: 3,
    batchFirst: true,
  });
}

/** Whether an attention returns its weights in a run. */
async function returned(model: nn.Module<unknown>, path: string, run: () => Promise<unknown>): Promise<boolean[]> {
  const seen: boolean[] = [];
  using _hook = model.registerForwardHook(path, (_, __, output) => {
    seen.push((output as unknown[])[1] instanceof Tensor);
  });
  await run();
  return seen;
}

describe('constructors of nn', () => {
  describe('options', () => {
    test.each<[string, () => unknown, RegExp]>([
      [
        'heads',
        () => new nn.TransformerEncoderLayer({ dModel: 10, nhead: 3 }),
        /divisor of dModel \(10\) for nhead .* 3/,
      ],
      ['more heads', () => new nn.MultiheadAttention({ embedDim: 8, numHeads: 3 }), /embedDim \(8\) for numHeads/],
      ['model heads', () => new nn.TransformerModel({ dInput: 1, dOutput: 1, nhead: 7 }), /dModel \(2048\) for nhead/],
      ['dropout', () => new nn.TransformerDecoderLayer({ ...SIZES, dropout: 2 }), /from 0 to 1 for dropout .* 2/],
      [
        'activation',
        () => new nn.TransformerEncoderLayer({ ...SIZES, activation: 'tanh' as 'relu' }),
        /activation .*'tanh'/,
      ],
      [
        'epsilon',
        () => new nn.TransformerEncoderLayer({ ...SIZES, layerNormEps: -1e-9 }),
        /from 0 to below 1 for layerNormEps/,
      ],
      [
        'a boolean',
        () => new nn.TransformerEncoderLayer({ ...SIZES, bias: 1 as unknown as boolean }),
        /boolean for bias/,
      ],
      ['unknown', () => new nn.TransformerEncoderLayer({ ...SIZES, heads: 3 } as never), /'heads'/],
      ['layers', () => new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 0), /numLayers/],
      ['a layer', () => new nn.TransformerEncoder({} as never, 1), /TransformerEncoderLayer for layer/],
      [
        'norm',
        () => new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 1, { norm: new nn.LayerNorm(4) }),
        /8 features for norm/,
      ],
      ['dInput', () => new nn.TransformerModel({ dOutput: 1 } as never), /dInput/],
      [
        'a norm in their place',
        () => new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 1, new nn.LayerNorm(8) as never),
        /an object for the options of TransformerEncoder but received an instance of LayerNorm/,
      ],
    ])('that are wrong are named: %s', (_, make, message) => {
      expect(make).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
      );
    });

    test('may be held by an instance of a class', () => {
      class Sizes {
        dModel = 8;
        nhead = 2;
      }
      expect(new nn.TransformerEncoderLayer(new Sizes()).options.nhead).toBe(2);
      const none = Object.assign(Object.create(null), SIZES);
      expect(new nn.TransformerEncoderLayer(none).options.nhead).toBe(2);
    });

    test('are refused before anything is allocated', () => {
      const huge = { dModel: 2 ** 40, nhead: 3 };
      expect(() => new nn.TransformerEncoderLayer(huge)).toThrow(/nhead/);
    });
  });

  test('a stack has copies of its layer', async () => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    const encoder = new nn.TransformerEncoder(layer, 2);
    const before = numbers(layer.stateDict()['linear1.weight'] as Tensor).slice();
    const ones = Tensor.from(new Float32Array(128).fill(1), { shape: [16, 8] });
    await encoder.loadStateDict({ 'layers.0.linear1.weight': ones }, { strict: false });
    const after = encoder.stateDict();
    expect(numbers(layer.stateDict()['linear1.weight'] as Tensor)).toEqual(before);
    expect(numbers(after['layers.1.linear1.weight'] as Tensor)).toEqual(before);
    expect(numbers(after['layers.0.linear1.weight'] as Tensor)).toEqual(numbers(ones));
  });
});

describe('nn.Module#forward', () => {
  describe('arguments of forward', () => {
    const encoder = () => new nn.TransformerEncoderLayer(SIZES).eval();
    const src = () => ramp(2, 5, 8);
    test.each<[string, () => Promise<unknown>, RegExp]>([
      ['src', () => encoder().forward(ramp(2, 5, 7)), /\[B, T, 8\] or \[T, 8\] for src .* \[2, 5, 7\]/],
      [
        'mask shape',
        () => encoder().forward(src(), { srcMask: ramp(4, 5) }),
        /\[5, 5\] or \[4, 5, 5\].* srcMask .* \[4, 5\]/,
      ],
      [
        'mask type',
        () => encoder().forward(src(), { srcMask: ramp(5, 5).to({ dtype: 'int64' }) }),
        /bool .* srcMask .*int64/,
      ],
      [
        'padding',
        () => encoder().forward(src(), { srcKeyPaddingMask: ramp(5, 2) }),
        /\[2, 5\].* srcKeyPaddingMask .* \[5, 2\]/,
      ],
      ['causal', () => encoder().forward(src(), { isCausal: true }), /srcMask beside isCausal/],
      ['option', () => encoder().forward(src(), { mask: ramp(5, 5) } as never), /'mask'/],
      ['tensor', () => encoder().forward([1] as never), /Tensor for src/],
      ['capture', () => encoder().captureAttention([src()], { heads: [] }), /heads/],
      [
        'a mask in place of options',
        () => encoder().forward(src(), ramp(5, 5) as never),
        /an object for the options of forward but received an instance of Tensor/,
      ],
      [
        'a mask in place of options of a capture',
        () => encoder().captureAttention([src()], ramp(5, 5) as never),
        /an object for the options of captureAttention but received an instance of Tensor/,
      ],
      [
        'a mask in place of options of a stream',
        () => encoder().captureAttentionStream([src()], ramp(5, 5) as never).output,
        /an object for the options of captureAttentionStream but received an instance of Tensor/,
      ],
      [
        'a mask in place of options of many captures',
        () =>
          encoder()
            .captureMany([[src()]], ramp(5, 5) as never)
            .next(),
        /an object for the options of captureMany but received an instance of Tensor/,
      ],
      [
        'a tensor in place of an input of many captures',
        async () => {
          const { value } = await encoder()
            .captureMany([src() as never])
            .next();
          throw (value as { error: unknown }).error;
        },
        /an object for an input of captureMany but received an instance of Tensor/,
      ],
      ['capture option', () => encoder().captureAttention([src()], { head: [0] } as never), /'head'/],
    ])('that are wrong are named: %s', async (_, run, message) => {
      await expect(run()).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      });
    });

    test('of a transformer have one batch', async () => {
      const transformer = new nn.Transformer({ ...SIZES, numEncoderLayers: 1, numDecoderLayers: 1 });
      await expect(transformer.forward(ramp(2, 5, 8), ramp(3, 5, 8))).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
      });
    });

    test('an aborted signal rejects with its reason', async () => {
      const reason = new Error('enough');
      await expect(encoder().forward(src(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    });
  });

  test('gradients reach the parameters, on the way that autograd knows', async () => {
    const model = makeModel().eval();
    const output = await model.forward(ramp(2, 5, 3), { grad: true });
    expect(difference(numbers(output), numbers(await model.forward(ramp(2, 5, 3))))).toBeLessThan(1e-5);
    await output.sum().backward();
    for (const { name, tensor } of model.namedParameters())
      expect([name, tensor.grad?.shape]).toEqual([name, tensor.shape]);
  });

  describe('what Python takes', () => {
    test('a normalization with an epsilon of 0', async () => {
      const norm = new nn.LayerNorm(2, { eps: 0 });
      expect([...numbers(await norm.forward(Tensor.from([[1, 3]], { dtype: 'float32' })))]).toEqual([-1, 1]);
      expect(new nn.TransformerEncoderLayer({ ...SIZES, layerNormEps: 0 }).options.layerNormEps).toBe(0);
    });

    test('null for a causal flag, as for masks', async () => {
      const src = ramp(2, 5, 8);
      const none = { srcMask: null, srcKeyPaddingMask: null, isCausal: null };
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 1).eval();
      expect(numbers(await encoder.forward(src, none))).toEqual(numbers(await encoder.forward(src)));
      const decoder = new nn.TransformerDecoderLayer(SIZES).eval();
      expect(numbers(await decoder.forward(src, src, { tgtIsCausal: null, memoryIsCausal: null }))).toEqual(
        numbers(await decoder.forward(src, src)),
      );
    });
  });

  describe('float masks that shift scores', () => {
    test('are added on every path', async () => {
      const layer = new nn.TransformerEncoderLayer(SIZES).eval();
      const src = ramp(2, 5, 8);
      const output = await layer.forward(src, { srcMask: ramp(5, 5) });
      const withGrad = await layer.forward(src, { srcMask: ramp(5, 5), grad: true });
      expect(difference(numbers(output), numbers(withGrad))).toBeLessThan(1e-5);
    });
  });
});

describe('nn.Module#modules', () => {
  test('have the names and types of PyTorch', () => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    expect(layer.modules()).toEqual([
      { name: '', type: 'TransformerEncoderLayer' },
      { name: 'self_attn', type: 'MultiheadAttention' },
      { name: 'self_attn.out_proj', type: 'Linear' },
      { name: 'linear1', type: 'Linear' },
      { name: 'dropout', type: 'Dropout' },
      { name: 'linear2', type: 'Linear' },
      { name: 'norm1', type: 'LayerNorm' },
      { name: 'norm2', type: 'LayerNorm' },
      { name: 'dropout1', type: 'Dropout' },
      { name: 'dropout2', type: 'Dropout' },
    ]);
  });
});

describe('nn.Module#train and eval', () => {
  test('train and eval', async () => {
    const model = makeModel();
    expect(model.training).toBe(true);
    const src = ramp(2, 5, 3);
    const [a, b] = [await model.forward(src), await model.forward(src)];
    expect(numbers(a)).not.toEqual(numbers(b)); // dropout
    expect(model.eval()).toBe(model);
    expect(model.training).toBe(false);
    expect(numbers(await model.forward(src))).toEqual(numbers(await model.forward(src)));
  });
});

describe('nn.Module#captureAttention', () => {
  test('captures give gradients of a scalar by the weights', async () => {
    const model = makeModel().eval();
    const { attentions } = await model.captureAttention([ramp(2, 5, 3)], { gradientOf: (output) => output.sum() });
    expect(attentions).toHaveLength(3);
    for (const { weights, gradient } of attentions) expect(gradient?.shape).toEqual(weights.shape);
  });
});

describe('nn.Module#dispose', () => {
  test('a disposed module says so', async () => {
    const model = makeModel();
    model.dispose();
    model.dispose();
    await expect(model.forward(ramp(2, 5, 3))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });
});

describe('nn.Module#setNeedWeights', () => {
  test('hooks on an attention see them, and no bit of the output changes', async () => {
    const model = makeModel().eval();
    const src = ramp(2, 5, 3);
    const seen: unknown[] = [];
    using _hook = model.registerForwardHook('transformer_encoder.layers.1.self_attn', (_, __, output) => {
      seen.push((output as unknown[])[1]);
    });
    const without = await model.forward(src);
    model.setNeedWeights();
    expect(numbers(await model.forward(src))).toEqual(numbers(without));
    model.setNeedWeights(false);
    await model.forward(src);
    expect(seen.map((weights) => (weights instanceof Tensor ? weights.shape : weights))).toEqual([
      null,
      [2, 2, 5, 5],
      null,
    ]);
    const { attentions } = await model.captureAttention([src]);
    expect(difference(numbers(seen[1] as Tensor), numbers(attentions[1]?.weights as Tensor))).toBeLessThan(1e-6);
  });

  test('copies of a layer have its flag, and say so', async () => {
    const layer = new nn.TransformerEncoderLayer(SIZES).setNeedWeights();
    const encoder = new nn.TransformerEncoder(layer, 2).eval();
    expect(encoder.needWeights).toBe(true);
    const run = () => encoder.forward(ramp(2, 5, 8));
    expect(await returned(encoder, 'layers.1.self_attn', run)).toEqual([true]);
    await getOutputAndAttentionWeights(encoder, ramp(2, 5, 8));
    expect(await returned(encoder, 'layers.1.self_attn', run)).toEqual([true]);
    const decoder = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(SIZES).setNeedWeights(), 1);
    expect(decoder.needWeights).toBe(true);
    expect(new nn.MultiheadAttention({ embedDim: 8, numHeads: 2 }).needWeights).toBe(true);
  });

  test('a whole and its part tell the same of one flag', async () => {
    const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 1).eval();
    const transformer = new nn.Transformer({ ...SIZES, customEncoder: encoder, numDecoderLayers: 1 }).eval();
    transformer.setNeedWeights();
    expect(encoder.needWeights).toBe(true);
    const src = ramp(2, 5, 8);
    await getOutputAndAttentionWeights(encoder, src);
    expect([transformer.needWeights, encoder.needWeights]).toEqual([true, true]);
    const run = () => transformer.forward(src, src);
    expect(await returned(transformer, 'encoder.layers.0.self_attn', run)).toEqual([true]);
    encoder.setNeedWeights(false);
    expect([transformer.needWeights, encoder.needWeights]).toEqual([false, false]);
  });
});

describe('getOutputAndAttentionWeights', () => {
  test('getOutputAndAttentionWeights gives those of each layer, and leaves no flag and no hook', async () => {
    const model = makeModel().eval();
    const src = ramp(2, 5, 3);
    const srcMask = Tensor.from(
      Array.from({ length: 25 }, (_, i) => i % 5 > Math.floor(i / 5)),
      { shape: [5, 5], dtype: 'bool' },
    );
    const { output, attentionWeights } = await getOutputAndAttentionWeights(model, src, srcMask);
    expect(numbers(output)).toEqual(numbers(await model.forward(src, { srcMask })));
    expect(output.requiresGrad).toBe(false);
    expect(attentionWeights.map(({ shape }) => shape)).toEqual([
      [2, 2, 5, 5],
      [2, 2, 5, 5],
      [2, 2, 5, 5],
    ]);
    for (const weights of attentionWeights) {
      for (const sum of numbers(weights.sum(3))) expect(sum).toBeCloseTo(1, 5);
      expect(numbers(weights)[1]).toBe(0); // hidden by the mask
    }
    expect(model.needWeights).toBe(false);
  });

  test('the flag is reset after an error, and stays where it was set before', async () => {
    const model = makeModel().eval();
    await expect(getOutputAndAttentionWeights(model, ramp(2, 5, 4))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
    expect(model.needWeights).toBe(false);
    using _hook = model.registerForwardHook('output_projection', () => {
      throw new Error('from a hook');
    });
    await expect(getOutputAndAttentionWeights(model, ramp(2, 5, 3))).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED' });
    expect(model.needWeights).toBe(false);
    model.setNeedWeights();
    await expect(getOutputAndAttentionWeights(model, ramp(2, 5, 3))).rejects.toThrow();
    expect(model.needWeights).toBe(true);
  });

  test('calls at the same time and inside one another see the weights, and leave no flag', async () => {
    const model = makeModel().eval();
    const other = makeModel().eval();
    const src = ramp(2, 5, 3);
    const path = 'transformer_encoder.layers.0.self_attn';
    using _nested = model.registerForwardHook('input_projection', async () => {
      await getOutputAndAttentionWeights(other, src);
    });
    const both = () => Promise.all([1, 2].map(() => getOutputAndAttentionWeights(model, src)));
    expect(await returned(model, path, both)).toEqual([true, true]);
    expect(await returned(other, path, both)).toEqual([true, true]);
    expect([model.needWeights, other.needWeights]).toEqual([false, false]);
    expect(await returned(model, path, () => model.forward(src))).toEqual([false]);
  });
});

describe('registerForwardPreHook, registerForwardHook and registerFullBackwardHook', () => {
  describe('hooks', () => {
    test('see and replace what passes, below layers with a fused path too', async () => {
      const model = makeModel().eval();
      const src = ramp(2, 5, 3);
      const plain = numbers(await model.forward(src));
      const path = 'transformer_encoder.layers.2.linear2';
      const calls: string[] = [];
      const pre = model.registerForwardPreHook(path, ({ name, type }, [input]) => {
        calls.push(`${name} ${type} ${(input as Tensor).shape}`);
        return [(input as Tensor).mul(0)];
      });
      const changed = numbers(await model.forward(src));
      pre.remove();
      expect(calls).toEqual([`${path} Linear 2,5,16`]);
      expect(difference(changed, plain)).toBeGreaterThan(1e-3);
      expect(numbers(await model.forward(src))).toEqual(plain);
    });

    test('a hook on a layer itself gives it its normal path, as one below it', async () => {
      const layer = new nn.TransformerEncoderLayer(SIZES).eval();
      const run = async (path?: string) => {
        using _hook = path === undefined ? undefined : layer.registerForwardHook(path, () => undefined);
        const { attentions } = await layer.captureAttention([ramp(2, 5, 8)]);
        return attentions.map(({ operator }) => operator);
      };
      expect(await run()).toEqual(['transformer_encoder_layer']);
      expect(await run('')).toEqual(await run('linear1'));
      expect(await run('')).not.toEqual(['transformer_encoder_layer']);
    });

    test('padding comes out as without hooks', async () => {
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 2).eval();
      const srcKeyPaddingMask = Tensor.from([false, false, false, false, false, false, false, false, true, true], {
        shape: [2, 5],
        dtype: 'bool',
      });
      const plain = await encoder.forward(ramp(2, 5, 8), { srcKeyPaddingMask });
      using _hook = encoder.registerForwardHook('layers.0.norm1', () => undefined);
      const hooked = await encoder.forward(ramp(2, 5, 8), { srcKeyPaddingMask });
      expect(numbers(plain).slice(-16)).toEqual(new Float32Array(16));
      expect(difference(numbers(plain), numbers(hooked))).toBeLessThan(1e-5);
    });

    test('of the backward pass get gradients', async () => {
      const model = makeModel().eval();
      const shapes: unknown[] = [];
      using _hook = model.registerFullBackwardHook(
        'transformer_encoder.layers.0.linear1',
        (_, gradInput, gradOutput) => {
          shapes.push(gradInput[0]?.shape, gradOutput[0]?.shape);
        },
      );
      const output = await model.forward(ramp(2, 5, 3), { grad: true });
      await output.sum().backward();
      expect(shapes).toEqual([
        [2, 5, 8],
        [2, 5, 16],
      ]);
    });

    describe('of modules that share parts', () => {
      const x = Tensor.zeros([2, 3, 8]);
      const norm = new nn.LayerNorm(8);
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 2, { norm }).eval();
      const decoder = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(SIZES), 1).eval();
      const whole = new nn.Transformer({ ...SIZES, customEncoder: encoder, customDecoder: decoder }).eval();
      const load = (module: nn.Module<unknown>) => module.loadStateDict(module.stateDict());

      async function inHook(
        hooked: nn.Module<unknown>,
        path: string,
        run: () => Promise<unknown>,
        call: () => Promise<unknown>,
      ): Promise<unknown> {
        const handle = hooked.registerForwardHook(path, async () => {
          await call();
        });
        try {
          return await run();
        } finally {
          handle.remove();
        }
      }
      const runEncoder = () => encoder.forward(x);
      const runWhole = () => whole.forward(x, x);

      test.each<[string, () => Promise<unknown>, () => Promise<unknown>]>([
        ['the module loads', runEncoder, () => load(encoder)],
        ['the whole loads', runEncoder, () => load(whole)],
        ['the whole moves', runEncoder, () => whole.to('cpu')],
        ['the whole runs', runEncoder, () => whole.forward(x, x)],
        ['the whole is captured', runEncoder, () => whole.captureAttention([x, x])],
        ['a part moves', runEncoder, () => norm.to('cpu')],
        ['a part loads', runEncoder, () => load(norm)],
        ['the module loads in a run of the whole', runWhole, () => load(encoder)],
        ['the module moves in a run of the whole', runWhole, () => encoder.to('cpu')],
        ['another part of the whole moves in a run of it', runWhole, () => decoder.to('cpu')],
      ])('refuse what would wait for them: %s', async (_, run, call) => {
        await expect(inHook(encoder, 'layers.0', run, call)).rejects.toMatchObject({
          code: 'ERR_HOOK_FAILED',
          cause: { code: 'ERR_MODEL_RUN', message: expect.stringContaining('called from inside') },
        });
        await encoder.forward(x);
      });

      test('refuse a run of the part that they were put on by the whole', async () => {
        await expect(inHook(whole, 'encoder.layers.0', runWhole, () => encoder.forward(x))).rejects.toMatchObject({
          code: 'ERR_HOOK_FAILED',
          cause: { code: 'ERR_MODEL_RUN' },
        });
      });

      test('allow what would not', async () => {
        await inHook(encoder, 'layers.0', runEncoder, () => norm.forward(x));
        await inHook(encoder, 'layers.0', runEncoder, () => decoder.to('cpu'));
        await inHook(encoder, 'layers.0', runEncoder, () => load(decoder));
        await inHook(whole, 'decoder.layers.0', runWhole, () => encoder.forward(x));
      });

      test('refuse two changes that would wait for each other’s runs', async () => {
        const other = new nn.LayerNorm(8);
        let bothInside = 0;
        const meet = async () => {
          bothInside++;
          while (bothInside < 2) await new Promise((resolve) => setTimeout(resolve, 1));
        };
        const results = await Promise.allSettled([
          inHook(
            norm,
            '',
            () => norm.forward(x),
            () => meet().then(() => other.to('cpu')),
          ),
          inHook(
            other,
            '',
            () => other.forward(x),
            () => meet().then(() => norm.to('cpu')),
          ),
        ]);
        expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      });
    });

    test('on a shared part fire in runs of the part and of the whole, whichever they were put on by', async () => {
      const norm = new nn.LayerNorm(8);
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 1, { norm }).eval();
      const transformer = new nn.Transformer({ ...SIZES, customEncoder: encoder, numDecoderLayers: 1 }).eval();
      const src = ramp(2, 5, 8);
      const seen: string[] = [];
      const note =
        (by: string) =>
        ({ name, type }: { name: string; type: string }) => {
          seen.push(`${by}: ${name} ${type}`);
        };
      const runs = async (): Promise<string[]> => {
        seen.length = 0;
        await transformer.forward(src, src);
        await encoder.forward(src);
        await norm.forward(src);
        return [...seen];
      };
      const onWhole = transformer.registerForwardHook('encoder.layers.0', note('whole'));
      const onNorm = transformer.registerForwardPreHook('encoder.norm', note('norm'));
      const onPart = encoder.registerForwardHook('layers.0', note('part'));
      using _own = transformer.registerForwardHook('decoder.norm', note('own'));
      const ofWhole = [
        'whole: encoder.layers.0 TransformerEncoderLayer',
        'part: encoder.layers.0 TransformerEncoderLayer',
        'norm: encoder.norm LayerNorm',
        'own: decoder.norm LayerNorm',
      ];
      const ofPart = [
        'whole: layers.0 TransformerEncoderLayer',
        'part: layers.0 TransformerEncoderLayer',
        'norm: norm LayerNorm',
      ];
      expect(await runs()).toEqual([...ofWhole, ...ofPart, 'norm:  LayerNorm']);
      expect([onWhole.calls, onNorm.calls, onPart.calls]).toEqual([2, 3, 2]);
      onNorm.remove();
      onWhole.remove();
      onPart.remove();
      expect(await runs()).toEqual(['own: decoder.norm LayerNorm']);
    });

    test('on a part go with the whole that they were put on by', async () => {
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 1).eval();
      const transformer = new nn.Transformer({ ...SIZES, customEncoder: encoder, numDecoderLayers: 1 }).eval();
      const handle = transformer.registerForwardHook('encoder.layers.0', () => undefined);
      const other = encoder.registerForwardHook('layers.0', () => undefined);
      transformer.dispose();
      await encoder.forward(ramp(2, 5, 8));
      expect([handle.calls, other.calls]).toEqual([0, 1]);
      handle.remove();
    });

    test('of a disposed part can be removed', async () => {
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 1).eval();
      const transformer = new nn.Transformer({ ...SIZES, customEncoder: encoder, numDecoderLayers: 1 }).eval();
      const handle = encoder.registerForwardHook('layers.0', () => undefined);
      encoder.dispose();
      handle.remove();
      await transformer.forward(ramp(2, 5, 8), ramp(2, 5, 8));
      expect(handle.calls).toBe(0);
    });

    test('on a layer are not copied with it', async () => {
      const layer = new nn.TransformerEncoderLayer(SIZES).eval();
      using handle = layer.registerForwardHook('', () => undefined);
      await new nn.TransformerEncoder(layer, 2).forward(ramp(2, 5, 8));
      expect(handle.calls).toBe(0);
    });

    test('HookedModel records modules of nn', async () => {
      const hooked = new HookedModel(makeModel().eval());
      hooked.setForwardHook('first', 'transformer_encoder.layers.0');
      const src = ramp(2, 5, 3);
      await hooked.model.forward(src);
      expect((hooked.hooks.get('first') as { output: Tensor }).output.shape).toEqual([2, 5, 8]);
    });
  });
});
