import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toFloat16Bits } from '../../lib/core/half';
import { readSafetensors } from '../../lib/formats/safetensors';
import {
  type Attention,
  assembleAttention,
  attentionRelevance,
  attentionRollout,
  type CaptureOptions,
  nn,
  renderView,
  ScriptModule,
  Tensor,
} from '../../lib/index';
import { bits, difference, fixture, inputsOf, numbers, path } from './model-fixtures';

// Weights in fewer bytes: each is told as exactly as the option says, whatever computed it, and what can't be told is refused.
const FORMS = join(__dirname, '..', 'fixtures', 'forms');
const LINEAR = { type: 'uint8', scale: 'linear' } as const;
const LOG = { type: 'uint8', scale: 'log' } as const;
const NARROW = [['float16', 'float16'] as const, ['linear', LINEAR] as const, ['log', LOG] as const];

/** How far weights may be from `exact`, which is a weight of float32. */
const within: Record<string, (decoded: number, exact: number) => boolean> = {
  float16: (decoded, exact) => Math.abs(decoded - exact) <= Math.max(2 ** -11 * Math.abs(exact), 2 ** -25),
  linear: (decoded, exact) => Math.abs(decoded - exact) <= 1 / 510 + 1e-7,
  log: (decoded, exact) =>
    exact === 0
      ? decoded === 0
      : exact >= 2 ** -24
        ? Math.abs(decoded / exact - 1) <= 0.034
        : decoded > 0 && decoded < 6.2e-8,
};

function expectNear(name: string, attention: Attention | undefined, exact: Tensor | undefined): void {
  expect(attention?.weights.dtype).toBe(name === 'float16' ? 'float16' : 'uint8');
  expect(attention?.scale).toBe(name === 'float16' ? undefined : name);
  const decoded = (attention as Attention).decode();
  expect([decoded.dtype, ...decoded.shape]).toEqual(['float32', ...(exact as Tensor).shape]);
  const [left, right] = [numbers(decoded), numbers(exact as Tensor)];
  expect(left.findIndex((value, i) => !within[name]!(value, right[i] as number))).toBe(-1);
}

async function load(name: string) {
  const each = fixture(name);
  return { model: await ScriptModule.load(path(each.file)), inputs: await inputsOf(each) };
}

let given: { shape: readonly number[]; data: unknown } | undefined;

beforeAll(async () => {
  given = (await readSafetensors(join(FORMS, 'forms.safetensors'))).entries.find(({ name }) => name === 'input');
});

const INPUT = () => Tensor.from(given?.data as Float32Array, { shape: given?.shape as number[] });

const forms = JSON.parse(readFileSync(join(FORMS, 'forms.json'), 'utf8')) as {
  name: string;
  attentions: { kind: string }[];
}[];

describe.each(NARROW)('dtype %s', (name, dtype) => {
  it.each([
    'encoder_relu__padded',
    'encoder_relu_traced',
    'decoder__causal_float',
    'encoder_float64',
    'hand_sdpa_float16',
    'hand_matmul_float16',
    'sdpa__gqa_causal',
  ])('holds the weights of %s, whole and in parts, beside the same output', async (checkpoint) => {
    const { model, inputs } = await load(checkpoint);
    const wholes: CaptureOptions[] = [{}, { averageHeads: true }, { topK: 2 }, { averageHeads: true, topK: 2 }];
    for (const options of [...wholes, { queries: [1, 0], heads: [1] }]) {
      const exact = await model.captureAttention(inputs, { ...options, statistics: ['entropy', 'received'] });
      const narrow = await model.captureAttention(inputs, { ...options, statistics: ['entropy', 'received'], dtype });
      expect(bits(narrow.output)).toEqual(bits(exact.output));
      for (const [i, { weights, keys, statistics }] of exact.attentions.entries()) {
        const attention = narrow.attentions[i];
        expectNear(name, attention, weights);
        expect(bits(attention?.keys ?? null)).toEqual(bits(keys ?? null));
        // Sums are those of the weights, not of what is left of them.
        expect(bits({ ...attention?.statistics })).toEqual(bits({ ...statistics }));
      }
    }
    model.dispose();
  });

  it('is that of float16 rounded to nearest, ties to even', async () => {
    if (name !== 'float16') return;
    const { model, inputs } = await load('encoder_relu_traced');
    const exact = await model.captureAttention(inputs, { scores: true });
    const half = await model.captureAttention(inputs, { scores: true, dtype });
    for (const [i, { weights, scores }] of exact.attentions.entries()) {
      const rounded = (tensor: Tensor) => Array.from(tensor.toTypedArray() as Float32Array, toFloat16Bits);
      expect(Array.from(half.attentions[i]?.weights.toTypedArray() as Uint16Array)).toEqual(rounded(weights));
      expect(Array.from(half.attentions[i]?.scores?.toTypedArray() as Uint16Array)).toEqual(rounded(scores as Tensor));
    }
  });

  it('holds weights of every kind, or refuses those that it has no code for', async () => {
    const refused = new Set<string>();
    for (const form of forms.filter(({ attentions }) => attentions.some(({ kind }) => kind !== 'softmax'))) {
      const model = await ScriptModule.load(join(FORMS, `${form.name}.pt`));
      const input = INPUT();
      const exact = await model.captureAttention([input]);
      const kinds = exact.attentions.map(({ kind }) => kind);
      const all = exact.attentions.flatMap(({ weights }) => [...numbers(weights)]);
      const narrow = await model.captureAttention([input], { dtype }).catch((error: unknown) => error as Error);
      if (narrow instanceof Error) {
        expect(narrow).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
        expect(narrow.message).toMatch(/^Expected weights from 0 to 1 for dtype 'uint8', but .*attention \d/);
        const coded = all.every((weight) => weight >= 0 && weight <= 1);
        expect(name !== 'float16' && (!coded || kinds.includes('signed') || kinds.includes('relu'))).toBe(true);
        for (const kind of kinds) refused.add(kind);
      } else {
        for (const [i, { weights }] of exact.attentions.entries()) expectNear(name, narrow.attentions[i], weights);
        if (name !== 'float16') expect(kinds).not.toContain('signed');
      }
      model.dispose();
    }
    if (name !== 'float16') expect([...refused]).toEqual(expect.arrayContaining(['signed', 'relu', 'unnormalized']));
    else expect(refused.size).toBe(0);
  });

  it('counts its own bytes', async () => {
    const { model, inputs } = await load('encoder_relu_traced');
    const [first] = (await model.captureAttention(inputs, { layers: [0] })).attentions;
    const elements = first!.weights.shape.reduce((product, size) => product * size, 1);
    const bytes = name === 'float16' ? 2 * elements : elements;
    await model.captureAttention(inputs, { layers: [0], dtype, maxBytes: bytes });
    await expect(model.captureAttention(inputs, { layers: [0], dtype, maxBytes: bytes - 1 })).rejects.toMatchObject({
      code: 'ERR_CAPTURE_TOO_LARGE',
    });
  });

  it('is an option of streams, many inputs, modules of nn and generations, put together', async () => {
    const { model, inputs } = await load('encoder_relu_traced');
    const { attentions } = await model.captureAttention(inputs);
    let count = 0;
    for await (const attention of model.captureAttentionStream(inputs, { dtype })) {
      expectNear(name, attention, attentions[count++]?.weights);
    }
    expect(count).toBe(attentions.length);
    for await (const result of model.captureMany([inputs], { dtype })) {
      if (!('output' in result)) throw result.error;
      expectNear(name, result.attentions[0], attentions[0]?.weights);
    }
    const encoder = new nn.TransformerEncoderLayer({ dModel: 8, nhead: 2, dropout: 0, batchFirst: true }).eval();
    const src = Tensor.from(
      Float32Array.from({ length: 48 }, (_, i) => Math.sin(i)),
      { shape: [2, 3, 8] },
    );
    const [exact] = (await encoder.captureAttention([src])).attentions;
    expectNear(name, (await encoder.captureAttention([src], { dtype })).attentions[0], exact?.weights);
    const steps = async (options: CaptureOptions) => {
      const lengths = [3, 2, 1];
      const captured = [];
      for (const length of lengths) captured.push(await encoder.captureAttention([src.narrow(1, 0, length)], options));
      return await assembleAttention(
        captured.map(({ attentions: [each], ...rest }, i) => ({
          ...rest,
          attentions: [{ ...(each as Attention), queryOffset: i }],
        })),
        { keyOffset: () => 0 },
      );
    };
    const [whole] = await steps({});
    const [narrow] = await steps({ dtype });
    expectNear(name, narrow, whole?.weights);
  });

  it('leaves gradients in float32; relevance, rollout and the page take it', async () => {
    const encoder = new nn.TransformerEncoder(
      new nn.TransformerEncoderLayer({ dModel: 8, nhead: 2, dropout: 0, batchFirst: true }),
      2,
    ).eval();
    const src = Tensor.from(
      Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)),
      { shape: [1, 8, 8] },
    );
    const gradientOf = (output: Tensor) => output.select(1, 0).sum();
    const exact = (await encoder.captureAttention([src], { gradientOf })).attentions;
    const narrow = (await encoder.captureAttention([src], { gradientOf, dtype })).attentions;
    expect(narrow.map(({ gradient }) => bits(gradient as Tensor))).toEqual(
      exact.map(({ gradient }) => bits(gradient as Tensor)),
    );
    const near = (one: Tensor, other: Tensor) => difference(one, other);
    expect(near(attentionRollout(narrow), attentionRollout(exact))).toBeLessThan(0.02);
    expect(near(attentionRelevance(narrow), attentionRelevance(exact))).toBeLessThan(0.02);
    const page = async (attentions: Attention[]) => await renderView([{ attentions }]);
    expect(Math.abs((await page(narrow)).length / (await page(exact)).length - 1)).toBeLessThan(0.1);
    expect(structuredClone(narrow.map(({ weights: _, gradient: __, ...rest }) => rest))).toHaveLength(2);
  });
});

describe('what makes no sense is refused ahead of the run', () => {
  it.each<[string, unknown, RegExp]>([
    ['an unknown name', 'float8', /'float32', 'same', 'float16' or \{ type: 'uint8', scale.*'float8'/],
    ['a number', 8, /dtype but received 8/],
    ['null', null, /dtype but received null/],
    ['uint8 without a scale', 'uint8', /\{ type: 'uint8', scale/],
    ['another type', { type: 'int8', scale: 'log' }, /'uint8' for dtype\.type but received 'int8'/],
    ['no scale', { type: 'uint8' }, /'linear' or 'log' for dtype\.scale but received undefined/],
    ['an unknown scale', { type: 'uint8', scale: 'sqrt' }, /'linear' or 'log' for dtype\.scale.*'sqrt'/],
    ['another option', { ...LOG, zero: 1 }, /type, scale in dtype but received 'zero'/],
  ])('%s', async (_, dtype, message) => {
    const { model, inputs } = await load('encoder_relu_traced');
    await expect(model.captureAttention(inputs, { dtype: dtype as never })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  it('scores as codes, and codes of no weights', async () => {
    const { model, inputs } = await load('encoder_relu_traced');
    await expect(model.captureAttention(inputs, { dtype: LINEAR, scores: true })).rejects.toThrow(/with scores/);
    const without = { dtype: LOG, weights: false, logSumExp: true };
    await expect(model.captureAttention(inputs, without as never)).rejects.toThrow(/weights: false/);
  });

  it('codes without their scale, which nothing can read', async () => {
    const { model, inputs } = await load('encoder_relu_traced');
    const { attentions } = await model.captureAttention(inputs, { dtype: LOG });
    expect(() => attentionRollout(attentions.map(({ weights }) => weights))).toThrow(/codes in uint8/);
  });

  it('captureTensor, which takes values of any size', async () => {
    const { model, inputs } = await load('encoder_relu_traced');
    const options = { dtype: 'float16' as never };
    await expect(model.captureTensor({ operator: 'softmax' }, inputs, options)).rejects.toThrow(/'float32' or 'same'/);
  });
});

test('decode() gives new tensors of codes, and weights in float32 as they are', async () => {
  const { model, inputs } = await load('encoder_relu_traced');
  const [float] = (await model.captureAttention(inputs)).attentions as [Attention];
  const shared = float.decode();
  expect(bits(shared)).toEqual(bits(float.weights));
  shared.dispose();
  expect(numbers(float.weights)).not.toHaveLength(0);
  const [coded] = (await model.captureAttention(inputs, { dtype: LINEAR })).attentions as [Attention];
  expect(Object.keys(coded)).not.toContain('decode');
  coded.weights.dispose();
  expect(() => coded.decode()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
});

test('NaN has a code on the logarithmic scale alone', async () => {
  const attention = new nn.MultiheadAttention({ embedDim: 4, numHeads: 1, batchFirst: true }).eval();
  const query = Tensor.from(new Float32Array(8).fill(Number.NaN), { shape: [1, 2, 4] });
  const capture = (dtype: NonNullable<CaptureOptions['dtype']>) =>
    attention.captureAttention([query, query, query], { dtype });
  const [log] = (await capture(LOG)).attentions;
  expect([...numbers(log!.decode())].every(Number.isNaN)).toBe(true);
  await expect(capture(LINEAR)).rejects.toThrow(/is NaN; scale 'log' and dtype 'float16' take it/);
});
