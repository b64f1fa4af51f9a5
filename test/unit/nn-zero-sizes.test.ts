import { attentionRelevance, attentionRollout, nn, setNumThreads, Tensor } from '../../lib/index';

// Nothing to attend to, nothing that attends, no examples: libtorch returns empty tensors or zeros, and so do captures.
beforeAll(() => setNumThreads(1));

const SIZES = { dModel: 8, nhead: 2, dimFeedforward: 4, dropout: 0, batchFirst: true };
const [BATCHES, LENGTHS] = [
  [0, 2],
  [0, 1, 9],
] as const;
const layer = () => new nn.TransformerEncoderLayer(SIZES).eval();
const decoderLayer = () => new nn.TransformerDecoderLayer(SIZES).eval();

const some = (batch: number, length: number) =>
  Tensor.from(
    Float32Array.from({ length: batch * length * 8 }, (_, i) => Math.sin(i)),
    { shape: [batch, length, 8] },
  );

type Attending = {
  forward(...inputs: Tensor[]): Promise<Tensor | { output: Tensor }>;
  captureAttention(inputs: Tensor[], options?: object): Promise<{ output: unknown; attentions: { weights: Tensor }[] }>;
  dispose(): void;
};
/** Modules by how many lengths their inputs have. */
const ONE: [string, () => unknown][] = [
  ['encoder layer', layer],
  ['encoder', () => new nn.TransformerEncoder(layer(), 2).eval()],
  ['encoder without nested tensors', () => new nn.TransformerEncoder(layer(), 2, { enableNestedTensor: false }).eval()],
  ['encoder layer in training', () => new nn.TransformerEncoderLayer(SIZES)],
];
const TWO: [string, () => unknown][] = [
  ['decoder layer', decoderLayer],
  ['decoder', () => new nn.TransformerDecoder(decoderLayer(), 2).eval()],
];
const sizes = BATCHES.flatMap((batch) =>
  LENGTHS.flatMap((queries) => LENGTHS.map((keys) => [batch, queries, keys] as const)),
);

const OPTIONS = [{}, { averageHeads: true }, { topK: 3 }, { queries: [0] }, { heads: [1] }, { layers: [-1] }];

async function attends(
  module: Attending,
  inputs: Tensor[],
  output: number[],
  [batch, queries, keys]: readonly number[],
) {
  const plain = (await module.forward(...inputs)) as Tensor;
  expect(plain.shape).toEqual(output);
  const bits = [...plain.toTypedArray()];
  for (const options of OPTIONS) {
    // A row that doesn't exist is refused; nothing else is.
    const refused = 'queries' in options && queries === 0 ? 'ERR_INVALID_ARGUMENT' : undefined;
    const captured = await module.captureAttention(inputs, options).catch((error: { code: string }) => error);
    if ('code' in captured) {
      expect([options, captured.code]).toEqual([options, refused ?? 'none']);
      continue;
    }
    expect([...(captured.output as Tensor).toTypedArray()]).toEqual(bits);
    for (const { weights } of captured.attentions) {
      expect(weights.shape[0]).toBe(batch);
      if (!('topK' in options)) expect(weights.shape.at(-1)).toBe(keys);
      expect([...weights.toTypedArray()].every(Number.isFinite)).toBe(true);
    }
  }
  module.dispose();
}

describe('forward and captureAttention', () => {
  test.each(ONE)('%s', async (_, make) => {
    for (const [batch, length] of BATCHES.flatMap((b) => LENGTHS.map((l) => [b, l] as const))) {
      await attends(make() as Attending, [some(batch, length)], [batch, length, 8], [batch, length, length]);
    }
  });

  test.each(TWO)('%s', async (_, make) => {
    for (const [batch, queries, memory] of sizes) {
      const inputs = [some(batch, queries), some(batch, memory)];
      const module = make() as Attending;
      const plain = (await module.forward(...inputs)) as Tensor;
      expect(plain.shape).toEqual([batch, queries, 8]);
      const { output, attentions } = await module.captureAttention(inputs);
      expect([...(output as Tensor).toTypedArray()]).toEqual([...plain.toTypedArray()]);
      for (const [i, { weights }] of attentions.entries()) {
        expect(weights.shape).toEqual([batch, 2, queries, i % 2 === 0 ? queries : memory]);
      }
      module.dispose();
    }
  });
});

describe('nn.MultiheadAttention#forward', () => {
  test('multi-head attention, with and without weights, averaged or not', async () => {
    const attention = new nn.MultiheadAttention({ embedDim: 8, numHeads: 2, batchFirst: true }).eval();
    for (const [batch, queries, keys] of sizes) {
      const inputs = [some(batch, queries), some(batch, keys), some(batch, keys)] as const;
      for (const averageAttnWeights of [true, false]) {
        const { output, weights } = await attention.forward(...inputs, { averageAttnWeights });
        expect([output.shape, weights?.shape]).toEqual([
          [batch, queries, 8],
          averageAttnWeights ? [batch, queries, keys] : [batch, 2, queries, keys],
        ]);
      }
      const { output, weights: none } = await attention.forward(...inputs, { needWeights: false });
      expect([output.shape, none]).toEqual([[batch, queries, 8], undefined]);
    }
  });
});

describe('attentionRollout and attentionRelevance', () => {
  test.each([
    ['no examples', [0, 2, 3, 3]],
    ['no tokens', [1, 2, 0, 0]],
  ])('rollout and relevance of %s', (_, shape) => {
    const weights = Tensor.zeros(shape);
    const [batch, , tokens] = shape;
    expect(attentionRollout([weights, weights]).shape).toEqual([batch, tokens, tokens]);
    expect(attentionRelevance([{ weights, gradient: weights }]).shape).toEqual([batch, tokens, tokens]);
  });
});
