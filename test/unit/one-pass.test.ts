import { type CaptureOptions, nn, ScriptModule, Tensor, type Value } from '../../lib/index';
import { bits, difference, inputsOf, manifest, numbers, path, tensorsIn } from './model-fixtures';

// exact: false: attention and weights in one pass, the output about as near to the fused kernel's as that is to the truth.
const largest = (value: Value): number =>
  Math.max(...tensorsIn(value).flatMap((tensor) => [...numbers(tensor)].filter(Number.isFinite).map(Math.abs)));

/** The largest difference of two values, as a share of the largest element. */
function share(a: Value, b: Value): number {
  const others = tensorsIn(b);
  return Math.max(...tensorsIn(a).map((each, i) => difference(each, others[i] as Tensor))) / largest(b);
}

const src = (length: number, width: number, batch = 2): Tensor =>
  Tensor.from(
    Float32Array.from({ length: batch * length * width }, (_, i) => Math.sin(i * 1.7)),
    { shape: [batch, length, width] },
  );

describe.each(
  manifest.fixtures
    .filter(({ attentions, throws }) => !throws && attentions.some(({ operator }) => operator.startsWith('scaled_dot')))
    .map((each) => [each.name, each] as const),
)('%s', (_, each) => {
  it('has the same attentions, and an output as near as its type tells', async () => {
    const model = await ScriptModule.load(path(each.file));
    const options = each.method === 'forward' ? {} : { method: each.method };
    const exact = await model.captureAttention(await inputsOf(each), options);
    const other = await ScriptModule.load(path(each.file)); // one may keep what it was given
    const onePass = await other.captureAttention(await inputsOf(each), { ...options, exact: false });
    expect(share(onePass.output, exact.output)).toBeLessThan(each.tolerance);
    if (each.unordered) {
      // Tasks that the model forks come in any order.
      for (const { attentions } of [exact, onePass]) attentions.sort((a, b) => a.name.localeCompare(b.name));
    }
    expect(onePass.attentions.map(({ name, operator }) => [name, operator])).toEqual(
      exact.attentions.map(({ name, operator }) => [name, operator]),
    );
    for (const [i, { weights }] of exact.attentions.entries()) {
      expect(difference(onePass.attentions[i]?.weights as Tensor, weights)).toBeLessThanOrEqual(each.tolerance);
    }
    model.dispose();
    other.dispose();
  });
});

describe('one attention', () => {
  const attention = new nn.MultiheadAttention({ embedDim: 32, numHeads: 4, batchFirst: true }).eval();
  const both = async (inputs: [Tensor, Tensor, Tensor], options: object = {}) => {
    const forward = { needWeights: false };
    const exact = await attention.captureAttention(inputs, { ...forward, ...options });
    const onePass = await attention.captureAttention(inputs, { ...forward, ...options, exact: false });
    return { exact, onePass };
  };

  it.each([
    [6, 6],
    [7, 1],
    [33, 130],
    [200, 17],
  ])('of %i queries and %i keys: the same weights, bit by bit, and the output 1e-6 apart', async (queries, keys) => {
    const key = src(keys, 32);
    const { exact, onePass } = await both([src(queries, 32), key, key]);
    expect(bits(onePass.attentions[0]!.weights)).toEqual(bits(exact.attentions[0]!.weights));
    expect(share(onePass.output.output, exact.output.output)).toBeLessThan(2e-6);
  });

  it.each<[string, object]>([
    ['of selected heads', { heads: [1] }],
    ['of selected queries', { queries: [0, 3] }],
    ['with gradients', { gradientOf: ({ output }: { output: Tensor }) => output.sum() }],
    ['of layers that are told from the end', { layers: [-1] }],
  ])('%s stays as it is', async (_, options) => {
    const inputs = src(9, 32);
    const { exact, onePass } = await both([inputs, inputs, inputs], options);
    expect(bits(onePass.output.output)).toEqual(bits(exact.output.output));
    expect(bits(onePass.attentions[0]!.weights)).toEqual(bits(exact.attentions[0]!.weights));
  });

  it('takes masks, whole rows of them, and every other option beside', async () => {
    const inputs = src(9, 32);
    const keyPaddingMask = Tensor.from(
      Uint8Array.from({ length: 18 }, (_, i) => (i > 14 ? 1 : 0)),
      {
        shape: [2, 9],
        dtype: 'bool',
      },
    );
    const all: CaptureOptions[] = [
      { averageHeads: true, scores: true },
      { topK: 3, logSumExp: true },
      { weights: false, statistics: ['received', 'entropy'] },
      { dtype: { type: 'uint8', scale: 'log' } },
    ];
    for (const options of all) {
      const { exact, onePass } = await both([inputs, inputs, inputs], { keyPaddingMask, ...options });
      const all = ({ weights, scores, keys, logSumExp, statistics }: (typeof exact.attentions)[number]) =>
        bits({
          ...(weights && { weights }),
          ...(scores && { scores }),
          ...(keys && { keys }),
          ...(logSumExp && { logSumExp }),
          ...statistics,
        } as Value);
      expect(onePass.attentions.map(all)).toEqual(exact.attentions.map(all));
      expect(share(onePass.output.output, exact.output.output)).toBeLessThan(2e-6);
    }
  });

  it('works with hooks, in streams, of many inputs, and gives what captureAttention gives', async () => {
    const encoder = new nn.TransformerEncoder(
      new nn.TransformerEncoderLayer({ dModel: 32, nhead: 4, dropout: 0, batchFirst: true }),
      2,
    ).eval();
    const seen: Tensor[] = [];
    encoder.registerForwardHook('layers.0.self_attn', (_, __, output) => {
      seen.push(tensorsIn(output as Value)[0] as Tensor);
    });
    const input = src(12, 32);
    const { output } = await encoder.captureAttention([input], { exact: false });
    expect(seen).toHaveLength(1);
    const exact = await encoder.captureAttention([input]);
    expect(share(output as Value, exact.output as Value)).toBeLessThan(5e-6);
    const stream = encoder.captureAttentionStream([input], { exact: false });
    let count = 0;
    for await (const { weights } of stream) count += weights.shape.length === 4 ? 1 : 0;
    expect(count).toBe(2);
    expect(bits((await stream.output) as Value)).toEqual(bits(output as Value));
    for await (const result of encoder.captureMany([[input]], { exact: false })) {
      if (!('output' in result)) throw result.error;
      expect(bits(result.output as Value)).toEqual(bits(output as Value));
    }
  });

  it('refuses what is no boolean, and leaves plain runs alone', async () => {
    const inputs = src(9, 32);
    await expect(
      both([inputs, inputs, inputs]).then(() =>
        attention.captureAttention([inputs, inputs, inputs], { exact: 0 as never }),
      ),
    ).rejects.toThrow(/a boolean for exact/);
  });
});
