import { TorchError } from '../../lib/errors';
import { fromFloat16Bits } from '../../lib/formats/half';
import { attentionLabels } from '../../lib/view/attention-labels';
import { prepareView, type ViewAttention } from '../../lib/view/prepare';

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

function attention(name: string, shape: number[], change: Partial<ViewAttention> = {}): ViewAttention {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1 / (shape.at(-1) as number));
  const [heads, queries] = shape.slice(-3) as [number, number];
  return {
    name,
    operator: 'softmax',
    weights: { shape, data },
    heads: range(heads),
    queries: range(queries),
    ...change,
  };
}

function floats(base64: string | undefined): Float32Array {
  const bytes = Buffer.from(base64 ?? '', 'base64');
  return new Float32Array(new Uint8Array(bytes).buffer);
}

test('weights are kept exactly', () => {
  const data = Float32Array.of(0.1, 0.9, 1 / 3, 2 / 3);
  const view = prepareView([
    { title: 't', attentions: [attention('a', [1, 1, 2, 2], { weights: { shape: [1, 1, 2, 2], data } })] },
  ]);
  expect(view.encoding).toBe('float32');
  expect(floats(view.weights[0])).toEqual(data);
});

test('each attention has the tokens of its axes', () => {
  const source = ['a', 'b', 'c', 'd'];
  const target = ['x', 'y', 'z'];
  const { examples } = prepareView([
    {
      title: 't',
      queryTokens: target,
      keyTokens: source,
      attentions: [
        attention('encoder.layers.0.self_attn', [1, 2, 4, 4]),
        attention('decoder.layers.0.self_attn', [1, 2, 3, 3]),
        attention('decoder.layers.0.multihead_attn', [1, 2, 3, 4]),
        attention('pool', [1, 2, 1, 7], { queries: [2] }),
        attention('own', [1, 2, 2, 2], { queryTokens: ['p', 'q'], keyTokens: ['p', 'q'] }),
      ],
    },
  ]);
  const named = examples[0]?.attentions.map(({ kind, queryTokens, keyTokens }) => [
    kind,
    examples[0]?.tokens[queryTokens ?? -1]?.join(''),
    examples[0]?.tokens[keyTokens ?? -1]?.join(''),
  ]);
  expect(named).toEqual([
    ['encoder', 'abcd', 'abcd'],
    ['decoder', 'xyz', 'xyz'],
    ['cross', 'xyz', 'abcd'],
    ['encoder', 'abcd', undefined],
    ['encoder', 'pq', 'pq'],
  ]);
  expect(examples[0]?.tokens).toHaveLength(3);
});

test('source and target of one length are told apart by the kind', () => {
  const { examples } = prepareView([
    {
      title: 't',
      queryTokens: ['x', 'y'],
      keyTokens: ['a', 'b'],
      attentions: [
        attention('encoder.block.0.SelfAttention', [1, 1, 2, 2]),
        attention('decoder.block.0.layer.0.SelfAttention', [1, 1, 2, 2]),
        attention('decoder.block.0.layer.1.EncDecAttention', [1, 1, 2, 2]),
      ],
    },
  ]);
  const axes = examples[0]?.attentions.map(({ queryTokens, keyTokens }) => `${queryTokens}${keyTokens}`);
  expect(examples[0]?.tokens).toEqual([
    ['a', 'b'],
    ['x', 'y'],
  ]);
  expect(axes).toEqual(['00', '11', '10']);
});

test('a causal mask tells a decoder', () => {
  const data = Float32Array.of(1, 0, 0.5, 0.5);
  const weights = { shape: [1, 1, 2, 2], data };
  const of = (change: Partial<ViewAttention>) =>
    prepareView([{ title: '', attentions: [attention('h.0.attn', [1, 1, 2, 2], change)] }]).examples[0]?.attentions[0]
      ?.kind;
  expect(of({ weights })).toBe('decoder');
  expect(of({})).toBe('encoder');
});

test('a batch becomes so many examples', () => {
  const data = Float32Array.of(1, 0, 0, 1, 0.5, 0.5, 0.25, 0.75);
  const view = prepareView([
    { title: 'b', attentions: [attention('a', [2, 1, 2, 2], { weights: { shape: [2, 1, 2, 2], data } })] },
  ]);
  expect(view.examples.map(({ title }) => title)).toEqual(['b (1 of 2)', 'b (2 of 2)']);
  expect(view.weights.map(floats)).toEqual([data.subarray(0, 4), data.subarray(4)]);
});

test('thumbnails hold the largest weight of each cell, and the mean over heads last', () => {
  const size = 96;
  const data = new Float32Array(2 * size * size);
  data[0] = 1;
  data[5 * size + 7] = 0.25;
  data[size * size + size * size - 1] = 1;
  const view = prepareView([
    { title: '', attentions: [attention('a', [1, 2, size, size], { weights: { shape: [1, 2, size, size], data } })] },
  ]);
  const {
    rows,
    columns,
    data: base64,
  } = view.examples[0]?.attentions[0]?.thumbnails ?? { rows: 0, columns: 0, data: '' };
  const bytes = Buffer.from(base64, 'base64');
  expect([rows, columns, bytes.length]).toEqual([48, 48, 3 * 48 * 48]);
  expect(bytes[0]).toBe(255);
  expect(bytes[2 * 48 + 3]).toBe(128);
  expect(bytes[2 * 48 * 48 - 1]).toBe(255);
  expect([bytes[2 * 48 * 48], bytes[3 * 48 * 48 - 1]]).toEqual([255, 255]);
});

test('averaged heads are one matrix', () => {
  const averaged = attention('a', [1, 3, 3], { heads: [0, 1, 2, 3], queries: [0, 1, 2] });
  const shown = prepareView([{ title: '', attentions: [averaged] }]).examples[0]?.attentions[0];
  expect(shown).toMatchObject({ averaged: true, rows: 3, columns: 3, heads: [0, 1, 2, 3] });
});

test('much is stored as float16, and too much is refused before any of it is copied', () => {
  const shape = [1, 12, 860, 860];
  const large = attention('a', shape);
  const view = prepareView([{ title: '', attentions: [large] }]);
  expect(view.encoding).toBe('float16');
  const bytes = Buffer.from((view.weights[0] as string).slice(0, 8), 'base64');
  expect(fromFloat16Bits(bytes.readUInt16LE(0))).toBeCloseTo(1 / 860, 6);

  const huge = { ...large, weights: { shape, data: { byteLength: 700 * 2 ** 20 } as Float32Array } };
  const attempt = () => prepareView([{ title: '', attentions: [huge] }]);
  expect(attempt).toThrow(TorchError);
  expect(attempt).toThrow(expect.objectContaining({ code: 'ERR_CAPTURE_TOO_LARGE' }));
});

test('weights that do not fit their heads or queries are refused', () => {
  const wrong = attention('layer', [1, 2, 3, 3], { heads: [0] });
  expect(() => prepareView([{ title: '', attentions: [wrong] }])).toThrow(
    /\[B, 1, 3, K\].*'layer' but received 18 elements of shape \[1, 2, 3, 3\]/,
  );
});

test('labels are what tells attentions apart', () => {
  const labels = (names: string[], kind: 'encoder' | 'cross' = 'encoder') =>
    attentionLabels(names.map((name) => ({ name, kind })));
  expect(labels(['bert.encoder.layer.0.attention.self', 'bert.encoder.layer.11.attention.self'])).toEqual([
    'layer 0',
    'layer 11',
  ]);
  expect(labels(['encoder.layers.0.self_attn'])).toEqual(['layer 0']);
  expect(labels(['self_attn'])).toEqual(['self_attn']);
  expect(labels(['h.0.attn', 'h.1.attn'])).toEqual(['h 0', 'h 1']);
  expect(labels(['a.self', 'b.self'])).toEqual(['a', 'b']);
  expect(labels(['a.0.x', 'a.1.x', 'a.0.x'])).toEqual(['a 0', 'a 1', 'a 0 · call 2']);
  expect(labels(['a', 'a.b'])).toEqual(['a', 'b']);
  expect(labels(['', ''])).toEqual(['#0', '#1']);
});
