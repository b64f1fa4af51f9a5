import { type Attention, type AttentionSite, nn, setNumThreads, Tensor } from '../../lib/index';
import { numbers, ramp } from './nn-fixtures';

// Tensors this small are slower on more threads.
beforeAll(() => setNumThreads(1));

const SIZES = { dModel: 8, nhead: 2, dimFeedforward: 16, batchFirst: true };

const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(SIZES), 3).eval();
const decoder = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(SIZES), 1).eval();
const src = ramp(2, 5, 8);
const padded = (count: number): Tensor =>
  Tensor.from(
    Array.from({ length: 10 }, (_, i) => i % 5 >= 5 - count),
    { shape: [2, 5] },
  ).to({ dtype: 'bool' });

const names = ['layers.0.self_attn', 'layers.1.self_attn', 'layers.2.self_attn'];
const values = ({ weights }: Attention): Float32Array => numbers(weights);

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe('attentionSites', () => {
  test('says what a capture would record, on the fused path and on the others', async () => {
    for (const training of [false, true]) {
      const sites = await encoder.train(training).attentionSites([src], { srcKeyPaddingMask: padded(1) });
      const { attentions } = await encoder.captureAttention([src], { srcKeyPaddingMask: padded(1) });
      const described = (list: readonly (Attention | AttentionSite)[]) =>
        list.map(({ index, name, operator }) => ({ index, name, operator }));
      expect(described(sites)).toEqual(described(attentions));
      expect(sites.map(({ shape }) => shape)).toEqual(attentions.map(({ weights }) => weights.shape));
    }
    encoder.eval();
  });

  test('takes the masks of each kind of module', async () => {
    const sites = await decoder.attentionSites([src, ramp(2, 3, 8)], { memoryMask: ramp(5, 3) });
    expect(sites.map(({ name, shape }) => [name, ...shape])).toEqual([
      ['layers.0.self_attn', 2, 2, 5, 5],
      ['layers.0.multihead_attn', 2, 2, 5, 3],
    ]);
  });

  test('has no options of captures', async () => {
    await expect(encoder.attentionSites([src], { heads: [0] } as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/srcMask.*attentionSites.*'heads'/),
    });
  });
});

describe('captureAttentionStream', () => {
  test('gives the attentions of a forward with its masks, and the output', async () => {
    const masks = { srcKeyPaddingMask: padded(2) };
    const { output, attentions } = await encoder.captureAttention([src], masks);
    const stream = encoder.captureAttentionStream([src], { ...masks, layers: [0, -1] });
    const seen = await all(stream);
    expect(seen.map(({ name }) => name)).toEqual([names[0], names[2]]);
    expect(seen.map(values)).toEqual([attentions[0], attentions[2]].map((each) => values(each as Attention)));
    expect(numbers(await stream.output)).toEqual(numbers(output));
  });

  test('that is left early stops the run, and the module goes on working', async () => {
    const stream = encoder.captureAttentionStream([src]);
    for await (const { index } of stream) {
      expect(index).toBe(0);
      break;
    }
    await expect(stream.output).rejects.toMatchObject({ name: 'AbortError' });
    expect((await encoder.forward(src)).shape).toEqual([2, 5, 8]);
  });
});

describe('captureMany', () => {
  test('takes tensors, or tensors with masks of their own, beside masks of all', async () => {
    const srcMask = Tensor.from(
      Array.from({ length: 25 }, (_, i) => i % 5 > Math.floor(i / 5)),
      { shape: [5, 5] },
    ).to({ dtype: 'bool' });
    const own = padded(1);
    const results = await all(
      encoder.captureMany([[src], { inputs: [src], srcKeyPaddingMask: own }, { inputs: [src], srcMask: null }], {
        srcMask,
        layers: [1],
      }),
    );
    const expected = [
      await encoder.captureAttention([src], { srcMask, layers: [1] }),
      await encoder.captureAttention([src], { srcMask, srcKeyPaddingMask: own, layers: [1] }),
      await encoder.captureAttention([src], { layers: [1] }),
    ];
    for (const [i, { output, attentions }] of expected.entries()) {
      const result = results[i];
      if (!result || 'error' in result) throw new Error(`input ${i} failed: ${result?.error}`);
      expect(numbers(result.output)).toEqual(numbers(output));
      expect(result.attentions.map(values)).toEqual(attentions.map(values));
    }
  });

  test('reports inputs that are wrong in words, and goes on', async () => {
    const results = await all(
      encoder.captureMany([
        [ramp(2, 5, 7)],
        3 as never,
        null as never,
        { inputs: 4 } as never,
        { inputs: [src], heads: [0] } as never,
        [src, src],
        [src],
      ]),
    );
    const messages = results.map((result) => ('error' in result ? String((result.error as Error)?.message) : ''));
    expect(messages).toEqual([
      expect.stringMatching(/\[B, T, 8\].* src .*\[2, 5, 7\]/),
      expect.stringMatching(/one tensor \(src\) for inputs .* 3 of type number/),
      expect.stringMatching(/one tensor \(src\) for inputs .* null/),
      expect.stringMatching(/one tensor \(src\) for inputs .* 4 of type number/),
      expect.stringMatching(/inputs, srcMask.*'heads'/),
      expect.stringMatching(/one tensor \(src\) for inputs .* Array of length 2/),
      '',
    ]);
  });

  test('gives attention modules what their forward gives', async () => {
    const attention = new nn.MultiheadAttention({ embedDim: 8, numHeads: 2, batchFirst: true }).eval();
    const [result] = await all(attention.captureMany([[src, src, src]], { averageAttnWeights: false }));
    if (!result || 'error' in result) throw new Error(`failed: ${result?.error}`);
    expect(result.output.weights?.shape).toEqual([2, 2, 5, 5]);
    expect(result.attentions).toHaveLength(1);
  });
});

describe('captureAttention', () => {
  describe('onAttention', () => {
    test('gets each attention while the module waits', async () => {
      const { attentions } = await encoder.captureAttention([src]);
      const seen: Attention[] = [];
      let busy = false;
      const result = await encoder.captureAttention([src], {
        onAttention: async (attention) => {
          expect(busy).toBe(false);
          busy = true;
          await new Promise((resolve) => setTimeout(resolve, 5));
          busy = false;
          seen.push(attention);
        },
      });
      expect(result.attentions).toEqual([]);
      expect(seen.map(values)).toEqual(attentions.map(values));
    });

    test('that throws rejects the capture with it', async () => {
      const cause = new Error('enough');
      const throwing = encoder.captureAttention([src], {
        onAttention: () => {
          throw cause;
        },
      });
      await expect(throwing).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause });
    });

    test('may run another module, but not this one', async () => {
      const seen: unknown[] = [];
      await encoder.captureAttention([src], {
        layers: [0],
        onAttention: async () => {
          seen.push((await decoder.forward(src, src)).shape);
          await expect(encoder.forward(src)).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
        },
      });
      expect(seen).toEqual([[2, 5, 8]]);
    });
  });

  describe('a signal', () => {
    test('aborted before or during a capture rejects it with its reason', async () => {
      const reason = new Error('enough');
      await expect(encoder.captureAttention([src], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      const controller = new AbortController();
      const during = encoder.captureAttention([src], {
        signal: controller.signal,
        onAttention: ({ index }) => {
          expect(index).toBe(0);
          controller.abort(reason);
        },
      });
      await expect(during).rejects.toBe(reason);
      await expect(encoder.attentionSites([src], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    });

    test('ends a stream of many inputs', async () => {
      const controller = new AbortController();
      const reason = new Error('enough');
      let count = 0;
      const loop = async (): Promise<void> => {
        for await (const _ of encoder.captureMany(Array(20).fill([src]), { signal: controller.signal })) {
          if (++count === 2) controller.abort(reason);
        }
      };
      await expect(loop()).rejects.toBe(reason);
      expect(count).toBeLessThan(20);
    });
  });

  describe('hooks during captures', () => {
    test('fire, and what they replace shows in the weights', async () => {
      const before = (await encoder.captureAttention([src])).attentions.map(values);
      const fired: string[] = [];
      const handles = [
        encoder.registerForwardPreHook('layers.1', ({ name }, [input]) => {
          fired.push(`pre ${name}`);
          return [(input as Tensor).mul(2)];
        }),
        encoder.registerForwardHook('layers.1.self_attn', ({ name }) => void fired.push(name)),
      ];
      const { output, attentions } = await encoder.captureAttention([src]);
      expect(fired).toEqual(['pre layers.1', 'layers.1.self_attn']);
      expect(numbers(output)).toEqual(numbers(await encoder.forward(src)));
      expect(attentions.map(({ name }) => name)).toEqual(names);
      expect(values(attentions[1] as Attention)).not.toEqual(before[1]);
      for (const handle of handles) handle.remove();
      expect((await encoder.captureAttention([src])).attentions.map(values)).toEqual(before);
    });

    test('that throw reject the capture', async () => {
      const cause = new Error('from a hook');
      using _hook = encoder.registerForwardHook('layers.0', () => {
        throw cause;
      });
      await expect(encoder.captureAttention([src])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause });
      await expect(encoder.attentionSites([src])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause });
    });

    test('of the backward pass see gradients of gradientOf', async () => {
      const seen: unknown[] = [];
      using _hook = encoder.registerFullBackwardHook('layers.2.linear1', (_, [gradInput]) => {
        seen.push(gradInput?.shape);
      });
      const { attentions } = await encoder.captureAttention([src], { gradientOf: (output) => output.sum() });
      expect(seen).toEqual([[2, 5, 8]]);
      for (const { weights, gradient } of attentions) expect(gradient?.shape).toEqual(weights.shape);
    });
  });
});
