import { join } from 'node:path';
import { type Attention, type CaptureOptions, ScriptModule, Tensor, type Value } from '../../lib/index';
import { Data, difference, folder, type GradientCase, type Numbers, plain, readGradientCases } from './hook-fixtures';

const cases = readGradientCases().flatMap((given) => given.files.map((file) => ({ given, file })));
const loaded: ScriptModule[] = [];

async function load(file: string): Promise<ScriptModule> {
  const model = await ScriptModule.load(join(folder, file));
  loaded.push(model);
  return model;
}

/** The scalar of the fixtures: a logit of the first element, at its first position where there are several. */
function logit(output: Value): Tensor {
  let row = (output as Tensor).select(0, 0);
  if (row.shape.length === 2) row = row.select(0, 0);
  return row.select(0, 1);
}

/** Largest difference relative to the largest element. */
function relative(received: Tensor | undefined, expected: Numbers): number {
  expect(received?.shape).toEqual(expected.shape);
  const values = Array.from((received as Tensor).toTypedArray(), Number);
  const scale = Math.max(...expected.data.map(Math.abs));
  expect(scale).toBeGreaterThan(0);
  return Math.max(...values.map((x, i) => Math.abs(x - (expected.data[i] as number)))) / scale;
}

/** The part of `[B, H, Q, K]` with these heads and queries. */
function part({ shape, data }: Numbers, heads: number[], queries: number[]): Numbers {
  const [batch, allHeads, allQueries, keys] = shape as [number, number, number, number];
  const picked: number[] = [];
  for (let b = 0; b < batch; b++) {
    for (const h of heads) {
      for (const q of queries) {
        const start = ((b * allHeads + h) * allQueries + q) * keys;
        picked.push(...data.slice(start, start + keys));
      }
    }
  }
  return { shape: [batch, heads.length, queries.length, keys], data: picked };
}

async function capture(given: GradientCase, file: string, options: CaptureOptions = {}) {
  const data = await Data.read('gradients.safetensors');
  const model = await load(file);
  const { attentions } = await model.captureAttention(data.tensors(given.inputs) as Value[], {
    gradientOf: logit,
    ...options,
  });
  const numbers = (value: unknown) => data.numbers(value) as Numbers[];
  return { attentions, weights: numbers(given.weights), gradients: numbers(given.gradients), model, data };
}

afterEach(() => {
  for (const model of loaded.splice(0)) model.dispose();
});

describe('captureAttention with gradientOf', () => {
  test.each(cases)("gradients by attention are an eager model's: $file", async ({ given, file }) => {
    const { attentions, weights, gradients, data } = await capture(given, file);
    expect(attentions).toHaveLength(weights.length);
    attentions.forEach((attention, i) => {
      expect(difference(plain(attention.weights), weights[i], 1e-5)).toBeUndefined();
      expect(relative(attention.gradient, gradients[i] as Numbers)).toBeLessThan(1e-4);
    });
    expect(data).toBeDefined();
  });

  test.each(cases.filter(({ file }) => !file.includes('frozen')))(
    'of a selection only: $file',
    async ({ given, file }) => {
      const { attentions, gradients } = await capture(given, file, { layers: [-1], heads: [1], queries: [3, 0] });
      expect(attentions).toHaveLength(1);
      const [only] = attentions as [Attention];
      const expected = part(gradients.at(-1) as Numbers, only.heads, only.queries);
      expect(only.gradient?.shape).toEqual(only.weights.shape);
      expect(relative(only.gradient, expected)).toBeLessThan(1e-4);
    },
  );

  test('the mean over the heads has the mean gradient', async () => {
    const { given, file } = cases.find((each) => each.file === 'grad_sdpa_script.pt') as (typeof cases)[number];
    const { attentions, gradients } = await capture(given, file, { averageHeads: true });
    attentions.forEach(({ gradient }, i) => {
      const [first, second] = [0, 1].map((head) => part(gradients[i] as Numbers, [head], [0, 1, 2, 3, 4]).data);
      const mean = (first as number[]).map((x, k) => (x + ((second as number[])[k] as number)) / 2);
      expect(relative(gradient, { shape: gradient?.shape ?? [], data: mean })).toBeLessThan(1e-4);
    });
  });

  describe.each<[string, CaptureOptions]>([
    ['all rows', {}],
    ['some heads and rows', { heads: [1], queries: [3, 0] }],
    ['the mean over the heads', { averageHeads: true }],
  ])('with topK, %s', (_, options) => {
    const files = ['grad_sdpa_script.pt', 'grad_eager_trace.pt', 'grad_gqa_script.pt', 'grad_encoder_script.pt'];
    test.each(cases.filter(({ file }) => files.includes(file)))(
      'the gradient is that of the weights that were kept: $file',
      async ({ given, file }) => {
        const full = await capture(given, file, options);
        const top = await capture(given, file, { ...options, topK: 2 });
        expect(top.attentions).toHaveLength(full.attentions.length);
        for (const [i, { weights, keys, gradient }] of top.attentions.entries()) {
          const all = full.attentions[i] as Attention;
          expect(weights.shape).toEqual([...all.weights.shape.slice(0, -1), 2]);
          expect(gradient?.shape).toEqual(weights.shape);
          expect(gradient?.dtype).toBe(weights.dtype);
          const length = all.weights.shape.at(-1) as number;
          const whole = all.gradient?.toTypedArray() as Float32Array;
          const expected = Array.from(keys?.toTypedArray() as BigInt64Array, (key, k) => {
            return whole[Math.floor(k / 2) * length + Number(key)] as number;
          });
          expect(relative(gradient, { shape: weights.shape, data: expected })).toBeLessThan(1e-5);
        }
      },
    );
  });

  test('the scalar may be made asynchronously, and runs repeat', async () => {
    const { given, file } = cases.find((each) => each.file === 'grad_sdpa_trace.pt') as (typeof cases)[number];
    const { model, gradients, data } = await capture(given, file);
    for (let run = 0; run < 4; run++) {
      const { attentions } = await model.captureAttention(data.tensors(given.inputs) as Value[], {
        gradientOf: async (output) => {
          await new Promise((resolve) => setImmediate(resolve));
          return logit(output);
        },
      });
      attentions.forEach(({ gradient }, i) => {
        expect(relative(gradient, gradients[i] as Numbers)).toBeLessThan(1e-4);
      });
    }
  });

  test('a capture with gradients leaves parameters without any, and the next forward as it was', async () => {
    const { given, file } = cases.find((each) => each.file === 'grad_encoder_script.pt') as (typeof cases)[number];
    const data = await Data.read('gradients.safetensors');
    const model = await load(file);
    const inputs = data.tensors(given.inputs) as Value[];
    const before = plain(await model.forward(inputs));
    await model.captureAttention(inputs, { gradientOf: logit });
    expect(plain(await model.forward(inputs))).toEqual(before);
    expect((await model.forward(inputs)) as Tensor).toMatchObject({ requiresGrad: false });
    for (const { tensor } of model.namedParameters()) expect(tensor.grad).toBeNull();
  });

  describe('what is no scalar of the output', () => {
    const wrong: [string, (output: Value) => unknown][] = [
      ['several elements', (output) => output],
      ['a number', () => 3],
      ['nothing', () => undefined],
      ['a tensor of its own', () => Tensor.from([1])],
    ];
    test.each(wrong)('%s', async (_, gradientOf) => {
      const { given, file } = cases[0] as (typeof cases)[number];
      const data = await Data.read('gradients.safetensors');
      const model = await load(file);
      const options = { gradientOf } as CaptureOptions;
      await expect(model.captureAttention(data.tensors(given.inputs) as Value[], options)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
      });
    });

    test('what it throws is what the capture rejects with', async () => {
      const { given, file } = cases[0] as (typeof cases)[number];
      const data = await Data.read('gradients.safetensors');
      const model = await load(file);
      const reason = new Error('no');
      const gradientOf = () => {
        throw reason;
      };
      await expect(model.captureAttention(data.tensors(given.inputs) as Value[], { gradientOf })).rejects.toBe(reason);
    });
  });

  describe('an aborted signal', () => {
    const reason = new Error('enough');

    async function hand() {
      const { given, file } = cases.find((each) => each.file === 'grad_sdpa_script.pt') as (typeof cases)[number];
      const data = await Data.read('gradients.safetensors');
      return { model: await load(file), inputs: data.tensors(given.inputs) as Value[] };
    }

    test('while the scalar is made: the backward pass is not begun', async () => {
      const { model, inputs } = await hand();
      const reached = model.registerFullBackwardHook('head', () => {});
      const controller = new AbortController();
      const gradientOf = (output: Value) => {
        controller.abort(reason);
        return logit(output);
      };
      const captured = model.captureAttention(inputs, { gradientOf, signal: controller.signal });
      await expect(captured).rejects.toBe(reason);
      await model.forward(inputs); // behind whatever was under way
      expect(reached.calls).toBe(0);
    });

    test('during the backward pass: it stops at the next attention', async () => {
      const { model, inputs } = await hand();
      const controller = new AbortController();
      model.registerFullBackwardHook('blocks.1', () => controller.abort(reason));
      const beyond = model.registerFullBackwardHook('blocks.0.norm1', () => {});
      const captured = model.captureAttention(inputs, { gradientOf: logit, signal: controller.signal });
      await expect(captured).rejects.toBe(reason);
      await model.forward(inputs);
      expect(beyond.calls).toBe(0);
      const { attentions } = await model.captureAttention(inputs, { gradientOf: logit });
      expect(attentions.every(({ gradient }) => gradient !== undefined)).toBe(true);
    });
  });
});
