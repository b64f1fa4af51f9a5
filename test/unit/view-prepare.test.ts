import { inflateRawSync } from 'node:zlib';
import { TorchError } from '../../lib/core/errors';
import { Tensor } from '../../lib/core/tensor';
import { attentionLabels } from '../../lib/view/attention-labels';
import { maxPool } from '../../lib/view/max-pool';
import { type PreparedView, type PrepareExample, prepareView, type ViewAttention } from '../../lib/view/prepare';
import { ABSENT, decodeWeight, encodeWeight, LOG8, LOG16, MASKED, ZERO } from '../../lib/view/weight-code';
import { long } from './page-window';

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

/** Rows that sum to one, no two alike, small ones among them. */
function softmaxed(shape: number[], seed = 1): Float32Array {
  const columns = shape.at(-1) as number;
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  let state = seed;
  for (let start = 0; start < data.length; start += columns) {
    let sum = 0;
    for (let i = start; i < start + columns; i++) {
      state = (state * 1103515245 + 12345) % 2 ** 31;
      data[i] = Math.exp((12 * state) / 2 ** 31);
      sum += data[i] as number;
    }
    for (let i = start; i < start + columns; i++) data[i] = (data[i] as number) / sum;
  }
  return data;
}

const prepare = (examples: PrepareExample[], maxSize = 2e7) => prepareView(examples, { maxSize });
const one = (attentions: ViewAttention[], change: Partial<PrepareExample> = {}) => [
  { title: 't', attentions, ...change },
];
const first = (view: PreparedView) =>
  view.data.examples[0]?.attentions[0] as NonNullable<(typeof view.data.examples)[0]>['attentions'][number];

/** A block as the page unpacks it. */
function block(view: PreparedView, index: number, width: number, store = 0): Uint8Array {
  const planes = inflateRawSync(Buffer.from(view.stores[store]?.[index] ?? '', 'base64'));
  const count = planes.length / width;
  const bytes = new Uint8Array(planes.length);
  for (let i = 0; i < planes.length; i++) bytes[(i % count) * width + Math.floor(i / count)] = planes[i] as number;
  return bytes;
}
const floats = (bytes: Uint8Array) => new Float32Array(bytes.slice().buffer);

describe('maxPool', () => {
  test('codes are ordered so that the largest says what a block has', () => {
    const codes = Uint8Array.of(
      MASKED,
      ABSENT,
      ZERO,
      encodeWeight(LOG8, 1e-30),
      encodeWeight(LOG8, 0.3),
      encodeWeight(LOG8, Number.NaN),
    );
    expect(Array.from(codes)).toEqual(Array.from(codes).sort((a, b) => a - b));
    expect(decodeWeight(LOG8, codes[4] as number, 2)).toBeCloseTo(0.6, 1);
    expect(maxPool(codes, 1, 6, 1, 2)).toEqual(Uint8Array.of(ZERO, LOG8.nan));
  });
});

describe('attentionLabels', () => {
  test('labels are what tells attentions apart', () => {
    const labels = (names: string[], kind: 'encoder' | 'cross' = 'encoder') =>
      attentionLabels(names.map((name) => ({ name, kind })));
    expect(labels(['bert.encoder.layer.0.attention.self', 'bert.encoder.layer.11.attention.self'])).toEqual([
      'layer 0',
      'layer 11',
    ]);
    expect(labels(['encoder.layers.0.self_attn'])).toEqual(['layer 0']);
    expect(labels(['self_attn'])).toEqual(['self_attn']);
    expect(labels(['h.0.attn', 'h.1.attn'])).toEqual(['layer 0', 'layer 1']);
    expect(labels(['a.self', 'b.self'])).toEqual(['a', 'b']);
    expect(labels(['a.0.x', 'a.1.x', 'a.0.x'])).toEqual(['a 0', 'a 1', 'a 0 · call 2']);
    expect(labels(['a', 'a.b'])).toEqual(['a', 'b']);
    expect(labels(['', ''])).toEqual(['#0', '#1']);
  });
});

describe('prepareView', () => {
  test('weights of a small capture are kept exactly, and masked ones told from zeros', async () => {
    const data = Float32Array.of(0.1, 0.9, 0, 1 / 3, 2 / 3, 0, 0.2, 0.8, 0, 1, 0, 0);
    const view = await prepare(one([attention('a', [1, 2, 2, 3], { weights: { shape: [1, 2, 2, 3], data } })]));
    expect(view.data.encoding).toBe('float32');
    const [a, b] = first(view)
      .blocks.full.slice(0, 2)
      .map((index) => floats(block(view, index, 4)));
    expect(Array.from(a ?? [])).toEqual(Array.from(data.subarray(0, 6), (value) => value || -0));
    expect(Object.is(b?.[4], 0)).toBe(true);
    expect(Object.is(b?.[2], -0)).toBe(true);
  });

  test('each attention has the tokens of its axes', async () => {
    const source = ['a', 'b', 'c', 'd'];
    const target = ['x', 'y', 'z'];
    const attentions = [
      attention('encoder.layers.0.self_attn', [1, 2, 4, 4]),
      attention('decoder.layers.0.self_attn', [1, 2, 3, 3]),
      attention('decoder.layers.0.multihead_attn', [1, 2, 3, 4]),
      attention('pool', [1, 2, 1, 7], { queries: [2] }),
      attention('own', [1, 2, 2, 2], { queryTokens: ['p', 'q'], keyTokens: ['p', 'q'] }),
    ];
    const { examples } = (await prepare(one(attentions, { tokens: source, targetTokens: target }))).data;
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

  test('source and target of one length are told apart by the kind', async () => {
    const attentions = [
      attention('encoder.block.0.SelfAttention', [1, 1, 2, 2]),
      attention('decoder.block.0.layer.0.SelfAttention', [1, 1, 2, 2]),
      attention('decoder.block.0.layer.1.EncDecAttention', [1, 1, 2, 2]),
    ];
    const { examples } = (await prepare(one(attentions, { tokens: ['a', 'b'], targetTokens: ['x', 'y'] }))).data;
    const axes = examples[0]?.attentions.map(({ queryTokens, keyTokens }) => `${queryTokens}${keyTokens}`);
    expect(examples[0]?.tokens).toEqual([
      ['a', 'b'],
      ['x', 'y'],
    ]);
    expect(axes).toEqual(['00', '11', '10']);
  });

  test('a causal mask tells a decoder', async () => {
    const weights = { shape: [1, 1, 2, 2], data: Float32Array.of(1, 0, 0.5, 0.5) };
    const of = async (change: Partial<ViewAttention>) =>
      first(await prepare(one([attention('h.0.attn', [1, 1, 2, 2], change)])));
    expect(await of({ weights })).toMatchObject({ kind: 'decoder', causal: true });
    expect(await of({})).toMatchObject({ kind: 'encoder', causal: false });
  });

  test('a batch becomes so many examples, each with its tokens', async () => {
    const data = Float32Array.of(1, 0, 0, 1, 0.5, 0.5, 0.25, 0.75);
    const view = await prepare(
      one([attention('a', [2, 1, 2, 2], { weights: { shape: [2, 1, 2, 2], data } })], {
        title: 'b',
        tokens: [
          ['a', 'b'],
          ['c', 'd'],
        ],
      }),
    );
    expect(view.data.examples.map(({ title, tokens }) => [title, tokens])).toEqual([
      ['b (1 of 2)', [['a', 'b']]],
      ['b (2 of 2)', [['c', 'd']]],
    ]);
    const stored = view.data.examples.map(({ attentions }, store) =>
      Array.from(floats(block(view, attentions[0]?.blocks.full[0] ?? -1, 4, store)), Math.abs),
    );
    expect(stored).toEqual([Array.from(data.subarray(0, 4)), Array.from(data.subarray(4))]);
  });

  test('thumbnails hold the largest weight of each cell, and the mean over heads last', async () => {
    const size = 128;
    const data = new Float32Array(2 * size * size);
    data[0] = 1;
    data[5 * size + 7] = 0.25;
    data[size * size + size * size - 1] = 1;
    data[size * size + 3] = Number.NaN;
    const view = await prepare(
      one([attention('a', [1, 2, size, size], { weights: { shape: [1, 2, size, size], data } })]),
    );
    expect(first(view)).toMatchObject({ thumbnail: { rows: 64, columns: 64 } });
    const codes = block(view, first(view).blocks.thumbnails, 1);
    const value = (matrix: number, row: number, column: number) =>
      decodeWeight(LOG8, codes[(matrix * 64 + row) * 64 + column] as number, 1);
    expect(codes).toHaveLength(3 * 64 * 64);
    expect(value(0, 0, 0)).toBeCloseTo(1, 6);
    expect(value(0, 2, 3)).toBeCloseTo(0.25, 1);
    expect(value(1, 63, 63)).toBeCloseTo(1, 6);
    expect(value(2, 63, 63)).toBeCloseTo(0.5, 1);
    // NaN is seen, in its cell alone; what no head looks at is masked.
    expect([value(1, 0, 1), value(2, 0, 1)]).toEqual([Number.NaN, Number.NaN]);
    expect(codes[10 * 64 + 10]).toBe(MASKED);
    expect(codes[63 * 64 + 63]).toBe(ZERO);
    expect(first(view).stats.map(({ nan }) => nan)).toEqual([0, 1, 1]);
  });

  test('tensors of any type make the page that arrays of their numbers make', async () => {
    const shape = [2, 3, 70, 70];
    const data = softmaxed(shape);
    // Rounded to 8 bits of mantissa, every type below holds them; so few heads have a mean that rounds in one way alone.
    const bits = new Uint32Array(data.buffer);
    for (let i = 0; i < bits.length; i++) bits[i] = (bits[i] as number) & 0xffff0000;
    const inArrays = await prepare(one([attention('layer', shape, { weights: { shape, data } })], { title: 't' }));
    for (const dtype of ['float32', 'float64', 'bfloat16'] as const) {
      const weights = Tensor.from(data, { shape }).to({ dtype });
      const view = await prepare(one([attention('layer', shape, { weights })], { title: 't' }));
      const held = dtype === 'bfloat16' ? { held: dtype } : {};
      const attentions = inArrays.data.examples.map((example) => ({
        ...example,
        attentions: example.attentions.map((own) => ({ ...own, ...held })),
      }));
      expect(view.data.examples).toEqual(attentions);
      expect(view.stores).toEqual(inArrays.stores);
    }
  });

  test('averaged heads are one matrix', async () => {
    const averaged = attention('a', [1, 3, 3], { heads: [0, 1, 2, 3], queries: [0, 1, 2] });
    const shown = first(await prepare(one([averaged])));
    expect(shown).toMatchObject({ averaged: true, rows: 3, columns: 3, heads: [0, 1, 2, 3] });
    expect(shown.stats).toHaveLength(1);
  });

  test('a capture of the strongest keys is never shown as if it were all', async () => {
    const weights = { shape: [1, 2, 2, 2], data: Float32Array.of(0.5, 0.2, 0.6, 0.1, 0.4, 0.3, 0.9, 0.05) };
    const keys = { shape: [1, 2, 2, 2], data: BigInt64Array.of(4n, 0n, 1n, 2n, 0n, 1n, 4n, 3n) };
    const view = await prepare(one([attention('a', [1, 2, 2, 2], { weights, keys, shape: [1, 2, 2, 5] })]));
    const shown = first(view);
    expect(shown).toMatchObject({ capturedTopK: 2, columns: 5 });
    // No mean over heads is known, nor an entropy.
    expect(shown.stats.map(({ entropy }) => entropy)).toEqual([-1, -1]);
    const codes = block(view, shown.blocks.thumbnails, 1);
    expect(Array.from(codes.subarray(0, 5), (code) => code === ABSENT)).toEqual([false, true, true, true, false]);
  });

  test('padding is no part of what is shown: masked for every query, or named so', async () => {
    const data = Float32Array.of(0.5, 0.5, 0, 0, 0.2, 0.8, 0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5, 0, 0);
    const weights = { shape: [1, 1, 4, 4], data };
    expect(first(await prepare(one([attention('a', [1, 1, 4, 4], { weights })])))).toMatchObject({
      shown: { rows: [0, 2], columns: [0, 2] },
    });
    const named = one([attention('a', [1, 1, 4, 4])], { tokens: ['<pad>', 'a', 'b', '[PAD]'] });
    expect(first(await prepare(named))).toMatchObject({ shown: { rows: [1, 3], columns: [1, 3] } });
  });

  test('the start of a decoder is no padding, though it is called so', async () => {
    const weights = (rows: number, columns: number) => ({
      shape: [1, 1, rows, columns],
      data: new Float32Array(rows * columns).fill(1 / columns),
    });
    const of = (name: string, kind: string, rows: number, columns: number) => ({
      name,
      kind,
      operator: 'softmax',
      weights: weights(rows, columns),
      heads: [0],
      queries: Array.from({ length: rows }, (_, i) => i),
    });
    const shown = async (targetTokens: string[]) => {
      const attentions = [of('decoder.0.self', 'decoder', 4, 4), of('decoder.0.cross', 'cross', 4, 3)];
      const { data } = await prepareView([{ tokens: ['a', 'b', '<pad>'], targetTokens, attentions }], { maxSize: 1e6 });
      return data.examples[0]?.attentions.map((each) => [each.shown.rows, each.shown.columns]);
    };
    expect(await shown(['<pad>', 'x', 'y', '<pad>'])).toEqual([
      [
        [0, 3],
        [0, 3],
      ],
      [
        [0, 3],
        [0, 2],
      ],
    ]);
    // Several are what a batch was filled up with.
    expect(await shown(['<pad>', '<pad>', 'x', 'y'])).toEqual([
      [
        [2, 4],
        [2, 4],
      ],
      [
        [2, 4],
        [0, 2],
      ],
    ]);
  });

  test('heads are told by where their weight lies', async () => {
    const size = 60;
    const head = (place: (row: number) => number) => {
      const data = new Float32Array(size * size).fill(0.2 / size);
      for (let row = 0; row < size; row++) data[row * size + place(row)] = 0.8;
      return data;
    };
    const heads = [
      head((row) => Math.max(0, row - 1)),
      head((row) => Math.min(size - 1, row + 1)),
      head((row) => row),
      head((row) => Math.max(0, row - 5)),
      head(() => 0),
      head((row) => (row * 37) % size),
      new Float32Array(size * size).fill(1 / size),
    ];
    const data = new Float32Array(heads.length * size * size);
    heads.forEach((values, i) => {
      data.set(values, i * size * size);
    });
    const weights = { shape: [1, heads.length, size, size], data };
    const { stats } = first(await prepare(one([attention('a', [1, heads.length, size, size], { weights })])));
    expect(stats.slice(0, -1).map(({ pattern }) => pattern)).toEqual([
      'previous',
      'next',
      'self',
      'local',
      'special',
      'content',
      'broad',
    ]);
    expect(stats[0]?.previous).toBeCloseTo(0.8 + 0.2 / size - 0.2 / size, 2);
    expect(stats[6]?.entropy).toBeCloseTo(1, 3);
  });

  describe('what does not fit exactly', () => {
    const shape = [1, 4, 128, 128];
    const data = softmaxed(shape);
    const layers = range(3).map((i) =>
      attention(`layers.${i}.self_attn`, shape, { weights: { shape, data: softmaxed(shape, i + 1) } }),
    );

    test.each([
      ['log16', 900_000, LOG16, 2],
      ['log8', 450_000, LOG8, 1],
    ] as const)('is stored as %s, off by no more than the page says', async (encoding, maxSize, code, width) => {
      const view = await prepare(one(layers), maxSize);
      expect(view.data.encoding).toBe(encoding);
      const bytes = block(view, first(view).blocks.full[0] as number, width);
      const codes = width === 1 ? bytes : new Uint16Array(bytes.slice().buffer);
      let worst = 0;
      for (let i = 0; i < 128 * 128; i++) {
        const value = decodeWeight(code, codes[i] as number, 1);
        if ((data[i] as number) < 1e-5) continue;
        worst = Math.max(worst, Math.abs(value / (data[i] as number) - 1));
      }
      expect(worst).toBeLessThanOrEqual(code.error);
      expect(worst).toBeGreaterThan(code.error / 3);
    });

    test('goes layer by layer from the last, with pictures and the strongest keys of all', async () => {
      const view = await prepare(one(layers), 300_000);
      const size =
        view.stores.flat().reduce((sum, text) => sum + text.length + 1, 0) + JSON.stringify(view.data).length;
      expect(size).toBeLessThanOrEqual(300_000);
      const full =
        view.data.examples[0]?.attentions.map(({ blocks }) => blocks.full.filter((index) => index >= 0).length) ?? [];
      expect(full[0]).toBe(0);
      expect(full[2]).toBe(4);
      // The strongest keys of each query are exact, also of the first layer.
      const [ranks] = first(view).blocks.top;
      const top = block(view, ranks?.[0] as number, 4);
      const weights = new Float32Array(top.slice(0, top.length / 2).buffer);
      const keys = new Uint32Array(top.slice(top.length / 2).buffer);
      for (const row of [0, 17, 127]) {
        const values = data.subarray(row * 128, (row + 1) * 128);
        expect(weights[row]).toBe(Math.max(...values));
        expect(keys[row]).toBe(values.indexOf(Math.max(...values)));
      }
    });

    test('has heads at full resolution where there is room for them, also after pictures were made smaller', async () => {
      const longer = Array.from({ length: 5 }, (_, i) => long(`layers.${i}.attn`, 2, 200));
      const room = 400_000;
      const view = await prepare(one(longer), room);
      const attentions = view.data.examples[0]?.attentions ?? [];
      expect(attentions[0]?.picture.rows).toBeLessThan(128);
      const full = attentions.map(({ blocks }) => blocks.full.filter((index) => index >= 0).length);
      const size = view.stores.flat().reduce((sum, text) => sum + text.length + 1, 0);
      const last = attentions.at(-1) as (typeof attentions)[number];
      const each = view.stores.at(-1)?.[last.blocks.full[0] as number]?.length ?? 0;
      expect(full.slice(-2)).toEqual([2, 2]);
      expect(room - size).toBeLessThan(1.5 * each);
    });

    test('is refused where not even thumbnails fit', async () => {
      const attempt = prepare(one(layers), 20_000);
      await expect(attempt).rejects.toThrow(TorchError);
      await expect(attempt).rejects.toMatchObject({ code: 'ERR_CAPTURE_TOO_LARGE' });
    });

    test('is taken one attention at a time', async () => {
      let alive = 0;
      let most = 0;
      async function* stream() {
        for (const layer of layers) {
          most = Math.max(most, ++alive);
          yield layer;
          alive--;
        }
      }
      await prepare([{ title: 't', attentions: stream() }], 300_000);
      expect(most).toBe(1);
    });
  });

  test('weights that do not fit their heads or queries are refused', async () => {
    const wrong = attention('layer', [1, 2, 3, 3], { heads: [0] });
    await expect(prepare(one([wrong]))).rejects.toThrow(
      /\[B, 1, 3, K\].*'layer' but received 18 elements of shape \[1, 2, 3, 3\]/,
    );
  });
});
