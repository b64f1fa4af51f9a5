import {
  type Attention,
  type AttentionWithoutWeights,
  assembleAttention,
  type CaptureOptions,
  nn,
  ScriptModule,
  type StepAttention,
  setNumThreads,
  Tensor,
  type Value,
} from '../../lib/index';
import { bits, difference, type Fixture, fixture, inputsOf, manifest, numbers, path } from './model-fixtures';

beforeAll(() => setNumThreads(2));

const loaded = async (each: Fixture) => ({
  model: await ScriptModule.load(path(each.file)),
  inputs: await inputsOf(each),
  method: each.method,
});

const worst = (values: Iterable<number>) => Math.max(0, ...values);

/** How far the weights that scores and their logSumExp give, computed in float64, are from those captured. */
function distance({ weights, scores, logSumExp }: Attention): number {
  const [given, before, logs] = [weights, scores, logSumExp].map((tensor) => numbers(tensor as Tensor)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const keys = weights.shape.at(-1) as number;
  return worst(
    given.map((weight, i) => {
      const log = logs[Math.floor(i / keys)] as number;
      // A row without any key is zero behind a fused kernel.
      if (log === Number.NEGATIVE_INFINITY)
        return before[i] === Number.NEGATIVE_INFINITY ? 0 : Number.POSITIVE_INFINITY;
      return Math.abs(Math.exp((before[i] as number) - log) - weight);
    }),
  );
}

/** Sums of rows and columns in float64. */
function sumsOf(weights: Tensor): { received: number[]; entropy: number[] } {
  const [queries, keys] = weights.shape.slice(-2) as [number, number];
  const values = numbers(weights);
  const matrices = values.length / (queries * keys);
  const received = new Array<number>(matrices * keys).fill(0);
  const entropy = new Array<number>(matrices * queries).fill(0);
  values.forEach((p, i) => {
    const [row, key] = [Math.floor(i / keys), i % keys];
    received[Math.floor(row / queries) * keys + key]! += p;
    entropy[row]! -= p === 0 ? 0 : p * Math.log(p);
  });
  return { received, entropy };
}

function expectSums(attention: AttentionWithoutWeights, weights: Tensor): void {
  const { received, entropy } = attention.statistics as Record<'received' | 'entropy', Tensor>;
  const expected = sumsOf(weights);
  const lead = weights.shape.slice(0, -2);
  expect(received.shape).toEqual([...lead, weights.shape.at(-1)]);
  expect(entropy.shape).toEqual([...lead, weights.shape.at(-2)]);
  expect(worst(numbers(received).map((sum, i) => Math.abs(sum - (expected.received[i] as number))))).toBeLessThan(2e-6);
  expect(worst(numbers(entropy).map((sum, i) => Math.abs(sum - (expected.entropy[i] as number))))).toBeLessThan(2e-6);
}

const ALL = { scores: true, logSumExp: true, statistics: ['received', 'entropy'] } as const;

/** Fixtures whose model changes the weights between the softmax and the product: their scores tell those before. */
const CHANGED = /masked_after|long_way/;

describe('every kind of attention', () => {
  const attending = manifest.fixtures.filter(
    ({ attentions, throws, calls, unordered }) =>
      attentions.length > 0 && throws === undefined && calls === undefined && !unordered,
  );

  test.each(attending.map((each) => [each.name, each] as const))('%s', async (name, each) => {
    const { model, inputs, method } = await loaded(each);
    const wanted = bits(await model.forward(inputs, { method }));
    const { output, attentions } = await model.captureAttention(inputs, { method, ...ALL });
    expect(bits(output)).toEqual(wanted);
    expect(attentions).toHaveLength(each.attentions.length);
    for (const attention of attentions) {
      const { weights, scores, logSumExp } = attention;
      const rounding = { float16: 1e-3, bfloat16: 8e-3 }[each.name.match(/float16|bfloat16/)?.[0] as string] ?? 2e-6;
      if (numbers(weights).some(Number.isNaN)) continue;
      expect(scores?.shape).toEqual(weights.shape);
      expect(logSumExp?.shape).toEqual(weights.shape.slice(0, -1));
      if (!CHANGED.test(name)) expect(distance(attention)).toBeLessThan(rounding);
      if (attention.statistics) expectSums(attention, weights);
    }
    // The same without the weights.
    const without = await model.captureAttention(inputs, { method, ...ALL, weights: false });
    expect(without.attentions.map(({ scores }) => scores && bits(scores))).toEqual(
      attentions.map(({ scores }) => scores && bits(scores)),
    );
    for (const [i, attention] of without.attentions.entries()) {
      expect(attention).not.toHaveProperty('weights');
      const { weights } = attentions[i] as Attention;
      if (attention.statistics && !numbers(weights).some(Number.isNaN)) expectSums(attention, weights);
    }
  });
});

describe('scores', () => {
  it.each(['hand_matmul_script', 'hand_bmm_trace'])('%s: those that the model computed, bit by bit', async (name) => {
    const { model, inputs } = await loaded(fixture(name));
    const { attentions } = await model.captureAttention(inputs, { scores: true });
    const { tensors } = await model.captureTensor({}, inputs);
    const at = tensors.findIndex(({ operator }) => operator === 'softmax');
    const computed = tensors[at - 1]?.tensor as Tensor;
    const scores = attentions[0]?.scores as Tensor;
    expect(bits(scores.reshape([-1]))).toEqual(bits(computed.reshape([-1])));
  });

  it('of causal attention behind a fused kernel are -Infinity where no query looks', async () => {
    const query = Tensor.from(
      Float32Array.from({ length: 40 }, (_, i) => Math.sin(i)),
      { shape: [1, 5, 8] },
    );
    const mha = new nn.MultiheadAttention({ embedDim: 8, numHeads: 1, batchFirst: true }).eval();
    const attnMask = Tensor.from(Array.from({ length: 5 }, (_, q) => Array.from({ length: 5 }, (_, k) => k > q)));
    const { attentions } = await mha.captureAttention([query, query, query], {
      attnMask,
      isCausal: true,
      scores: true,
    });
    const values = numbers(attentions[0]?.scores as Tensor);
    for (const [i, score] of values.entries()) {
      expect(score === Number.NEGATIVE_INFINITY).toBe(i % 5 > Math.floor(i / 5));
    }
  });

  it('of queries and keys in float64', async () => {
    // One head of an attention without biases: scores = x Wq (x Wk)ᵀ / √E.
    const [length, size] = [9, 8];
    const x = Float64Array.from({ length: length * size }, (_, i) => Math.sin(i * 1.7));
    const mha = new nn.MultiheadAttention({ embedDim: size, numHeads: 1, bias: false, batchFirst: true }).eval();
    const weight = numbers(mha.stateDict().in_proj_weight as Tensor);
    const project = (row: number, of: number) =>
      Float64Array.from({ length: size }, (_, i) => {
        let sum = 0;
        for (let k = 0; k < size; k++)
          sum += Math.fround(x[row * size + k] as number) * (weight[(of * size + i) * size + k] as number);
        return sum;
      });
    const input = Tensor.from(new Float32Array(x), { shape: [1, length, size] });
    const { attentions } = await mha.captureAttention([input, input, input], { ...ALL });
    const { scores, logSumExp } = attentions[0] as Attention;
    const got = numbers(scores as Tensor);
    const logs = numbers(logSumExp as Tensor);
    let [error, logError] = [0, 0];
    for (let q = 0; q < length; q++) {
      const query = project(q, 0);
      let sum = 0;
      for (let k = 0; k < length; k++) {
        const key = project(k, 1);
        const score = query.reduce((total, value, i) => total + value * (key[i] as number), 0) / Math.sqrt(size);
        error = Math.max(error, Math.abs(score - (got[q * length + k] as number)));
        sum += Math.exp(score);
      }
      logError = Math.max(logError, Math.abs(Math.log(sum) - (logs[q] as number)));
    }
    expect([error, logError].every((each) => each < 1e-6)).toBe(true);
  });
});

describe('together with the options that select', () => {
  const names = ['hand_sdpa_script', 'hand_matmul_script', 'encoder_relu'];
  const selections: [string, CaptureOptions][] = [
    ['heads and queries', { heads: [1, 0], queries: [2, 0] }],
    ['a range of queries', { queries: { start: 1, end: 4 } }],
    ['the mean of heads', { averageHeads: true }],
    ['the mean of some heads', { averageHeads: true, heads: [1], queries: [0, 3] }],
    ['the last from the end', { layers: [-1] }],
    ['dtype', { dtype: 'same' }],
  ];
  const cases = names.flatMap((name) => selections.map(([what, options]) => [name, what, options] as const));

  it.each(cases)('%s: %s', async (name, _, options) => {
    const { model, inputs } = await loaded(fixture(name));
    const { attentions } = await model.captureAttention(inputs, { ...options, ...ALL });
    for (const attention of attentions) {
      expectSums(attention, attention.weights);
      expect(attention.scores?.shape).toEqual(attention.weights.shape);
      if (!options.averageHeads) expect(distance(attention)).toBeLessThan(2e-6);
    }
    if (!options.averageHeads) return;
    const { averageHeads: _average, ...each } = options;
    const { attentions: apart } = await model.captureAttention(inputs, { ...each, ...ALL });
    for (const [i, attention] of attentions.entries()) {
      const { scores, logSumExp } = apart[i] as Attention;
      expect(difference(attention.scores as Tensor, (scores as Tensor).mean(1))).toBeLessThan(2e-6);
      expect(difference(attention.logSumExp as Tensor, (logSumExp as Tensor).mean(1))).toBeLessThan(2e-6);
    }
  });

  it.each(names)('%s: the largest weights with their scores, sums of all keys', async (name) => {
    const { model, inputs } = await loaded(fixture(name));
    const { attentions: whole } = await model.captureAttention(inputs, { ...ALL });
    for (const options of [{}, { weights: false }]) {
      const { attentions } = await model.captureAttention(inputs, { ...options, ...ALL, topK: 2 } as CaptureOptions);
      for (const [i, attention] of attentions.entries()) {
        const { scores, weights } = whole[i] as Attention;
        const keys = numbers(attention.keys as Tensor);
        const columns = weights.shape.at(-1) as number;
        const all = numbers(scores as Tensor);
        const got = numbers(attention.scores as Tensor);
        for (const [j, key] of keys.entries()) {
          expect(got[j]).toBeCloseTo(all[Math.floor(j / 2) * columns + key] as number, 5);
        }
        expectSums(attention, weights);
        expect('weights' in attention).toBe(!('weights' in options));
      }
    }
  });

  it('maxBytes counts what is asked for, to the byte', async () => {
    const { model, inputs } = await loaded(fixture('hand_sdpa_script'));
    const { attentions } = await model.captureAttention(inputs, { ...ALL, layers: [0] });
    const { weights, scores, logSumExp, statistics } = attentions[0] as Attention;
    const bytes = (...tensors: (Tensor | undefined)[]) =>
      tensors.reduce((sum, tensor) => sum + 4 * numbers(tensor as Tensor).length, 0);
    const sums = bytes(logSumExp, statistics?.received, statistics?.entropy);
    const within = (options: CaptureOptions) => model.captureAttention(inputs, { layers: [0], ...options });
    const matrix = bytes(weights, scores);
    await expect(within({ ...ALL, maxBytes: matrix + sums })).resolves.toBeDefined();
    await expect(within({ ...ALL, maxBytes: matrix + sums - 1 })).rejects.toMatchObject({
      code: 'ERR_CAPTURE_TOO_LARGE',
    });
    const { scores: _, ...rest } = ALL;
    const few = { ...rest, weights: false } as CaptureOptions;
    await expect(within({ ...few, maxBytes: sums })).resolves.toBeDefined();
    await expect(within({ ...few, maxBytes: sums - 1 })).rejects.toMatchObject({ code: 'ERR_CAPTURE_TOO_LARGE' });
  });
});

describe('statistics alone', () => {
  // 1024 queries and keys of one head: 4 MiB of weights.
  const length = 1024;
  const made = () => {
    const mha = new nn.MultiheadAttention({ embedDim: 8, numHeads: 1, batchFirst: true }).eval();
    const x = Tensor.from(
      Float32Array.from({ length: length * 8 }, (_, i) => Math.sin(i * 0.37)),
      { shape: [1, length, 8] },
    );
    return { mha, inputs: [x, x, x] };
  };

  it('hold nothing of the matrix', async () => {
    const { mha, inputs } = made();
    const memoryLimit = 2 ** 21;
    const { attentions } = await mha.captureAttention(inputs, {
      needWeights: false,
      statistics: ['received', 'entropy'],
      logSumExp: true,
      weights: false,
      memoryLimit,
    });
    const { statistics } = attentions[0] as AttentionWithoutWeights;
    const received = numbers(statistics?.received as Tensor);
    expect(received.reduce((sum, each) => sum + each)).toBeCloseTo(length, 1);
    await expect(mha.captureAttention(inputs, { needWeights: false, memoryLimit })).rejects.toMatchObject({
      code: 'ERR_MEMORY_LIMIT',
    });
    const { attentions: whole } = await mha.captureAttention(inputs, { needWeights: false });
    const { weights } = whole[0] as Attention;
    const expected = sumsOf(weights);
    expect(
      worst(
        received.map((sum, i) => Math.abs(sum - (expected.received[i] as number)) / (expected.received[i] as number)),
      ),
    ).toBeLessThan(1e-6);
    const entropy = numbers(statistics?.entropy as Tensor);
    expect(worst(entropy.map((each, i) => Math.abs(each - (expected.entropy[i] as number))))).toBeLessThan(1e-5);
  });
});

describe('other captures', () => {
  const options = { ...ALL, weights: false } as const;
  const sumsIn = (attentions: readonly AttentionWithoutWeights[]) =>
    attentions.map(({ statistics, logSumExp }) =>
      [statistics?.received, statistics?.entropy, logSumExp].map((tensor) => bits(tensor as Tensor)),
    );

  it('give the same one by one, and input by input', async () => {
    const { model, inputs } = await loaded(fixture('hand_sdpa_script'));
    const { attentions } = await model.captureAttention(inputs, options);
    const streamed: AttentionWithoutWeights[] = [];
    for await (const attention of model.captureAttentionStream(inputs, options)) {
      // @ts-expect-error: the weights weren't asked for
      expect(attention.weights).toBeUndefined();
      streamed.push(attention);
    }
    expect(sumsIn(streamed)).toEqual(sumsIn(attentions));
    const taken: AttentionWithoutWeights[] = [];
    await model.captureAttention(inputs, { ...options, onAttention: (attention) => taken.push(attention) });
    expect(sumsIn(taken)).toEqual(sumsIn(attentions));
    expect(Object.keys(taken[0] as object).sort()).toEqual(Object.keys(attentions[0] as object).sort());
    for await (const result of model.captureMany([inputs, inputs], options)) {
      if (!('output' in result)) throw result.error;
      expect(sumsIn(result.attentions)).toEqual(sumsIn(attentions));
    }
  });

  it('gradients come without weights too', async () => {
    const { model, inputs } = await loaded(fixture('hand_matmul_script'));
    const gradientOf = (output: Value) => (output as Tensor).sum();
    const { attentions } = await model.captureAttention(inputs, { gradientOf });
    const { attentions: without } = await model.captureAttention(inputs, { gradientOf, weights: false, scores: true });
    for (const [i, { gradient, scores }] of without.entries()) {
      expect(difference(gradient as Tensor, attentions[i]?.gradient as Tensor)).toBe(0);
      expect(scores).toBeDefined();
    }
  });
});

describe('steps put together', () => {
  // A decoder by hand: each step sees one more key.
  const step = (queries: number, keys: number, seed: number): StepAttention => {
    const scores = Tensor.from(
      Float32Array.from({ length: 2 * queries * keys }, (_, i) => Math.sin(seed + i)),
      {
        shape: [1, 2, queries, keys],
      },
    );
    const weights = scores.softmax(-1);
    const { received, entropy } = sumsOf(weights);
    const logs = numbers(scores);
    const sums = Array.from({ length: 2 * queries }, (_, row) =>
      Math.log(logs.slice(row * keys, (row + 1) * keys).reduce((sum, score) => sum + Math.exp(score), 0)),
    );
    return {
      index: 0,
      name: 'layer',
      operator: 'softmax',
      path: [],
      kind: 'softmax',
      shape: [1, 2, queries, keys],
      headsKnown: true,
      weights,
      scores,
      logSumExp: Tensor.from(sums, { shape: [1, 2, queries] }),
      statistics: {
        received: Tensor.from(received, { shape: [1, 2, keys] }),
        entropy: Tensor.from(entropy, { shape: [1, 2, queries] }),
      },
      heads: [0, 1],
      queries: Array.from({ length: queries }, (_, i) => i),
    };
  };
  const steps = [step(3, 3, 0), step(1, 4, 5), step(1, 5, 9)];

  it('have the scores, sums and logarithms of all', async () => {
    const [whole] = await assembleAttention(steps.map((attention) => ({ attentions: [attention] })));
    const { weights, scores, logSumExp, shape } = whole as Attention;
    expect(shape).toEqual([1, 2, 5, 5]);
    expectSums(whole as Attention, weights);
    expect(numbers(scores as Tensor).filter((score) => score === Number.NEGATIVE_INFINITY)).toHaveLength(
      2 * (3 * 2 + 1),
    );
    expect(logSumExp?.shape).toEqual([1, 2, 5]);
    expect(distance(whole as Attention)).toBeLessThan(1e-6);
  });

  it('are the same without the weights, and where a cache dropped keys', async () => {
    const without = steps.map(({ weights: _, ...attention }) => ({ attentions: [attention] }));
    const [sums] = await assembleAttention(without);
    expect(sums).not.toHaveProperty('weights');
    const [whole] = await assembleAttention(steps.map((attention) => ({ attentions: [attention] })));
    expect(bits(sums?.statistics?.received as Tensor)).toEqual(bits(whole?.statistics?.received as Tensor));
    const offsets = [0, 2, 3];
    const [moved] = await assembleAttention(
      steps.map((attention) => ({ attentions: [attention] })),
      { keyOffset: (_, i) => offsets[i] as number },
    );
    expect(moved?.shape).toEqual([1, 2, 5, 8]);
    expectSums(moved as Attention, (moved as Attention).weights);
    expect(distance(moved as Attention)).toBeLessThan(1e-6);
  });

  it('that differ in what they have are refused', async () => {
    const { scores: _, ...lacking } = steps[1] as Attention;
    await expect(
      assembleAttention([{ attentions: [steps[0] as Attention] }, { attentions: [lacking] }]),
    ).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('scores of 4 dimensions'),
    });
  });
});

describe('what is refused', () => {
  it.each([
    [{ weights: false }],
    [{ weights: 0 }],
    [{ scores: 'yes' }],
    [{ logSumExp: 1 }],
    [{ statistics: 'received' }],
    [{ statistics: ['mean'] }],
    [{ statistics: [undefined] }],
    [{ weights: false, statistics: [] }],
  ])('%j', async (options) => {
    const { model, inputs } = await loaded(fixture('hand_sdpa_script'));
    await expect(model.captureAttention(inputs, options as object)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });
});
