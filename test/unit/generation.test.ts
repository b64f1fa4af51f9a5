import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Attention,
  assembleAttention,
  type CaptureOptions,
  type GenerationOptions,
  type GenerationStep,
  ScriptModule,
  Tensor,
  type Value,
} from '../../lib/index';
import { Data, difference, type Numbers, plain } from './hook-fixtures';

const folder = join(__dirname, '..', 'fixtures', 'generation');

interface Expected {
  name: string;
  weights: { $tensor: string };
}

interface GenerationCase {
  name: string;
  file: string;
  method: string;
  steps: { inputs: unknown[]; logits: { $tensor: string }; attentions: Expected[] }[];
  whole: Expected[];
}

const cases = JSON.parse(readFileSync(join(folder, 'generation.json'), 'utf8')) as GenerationCase[];
const named = (name: string) => cases.find((each) => each.name === name) as GenerationCase;
let data: Data;
const loaded = new Map<string, ScriptModule>();

beforeAll(async () => {
  data = await Data.read('generation.safetensors', folder);
  for (const file of new Set(cases.map((each) => each.file))) {
    loaded.set(file, await ScriptModule.load(join(folder, file)));
  }
});

afterAll(() => {
  for (const model of loaded.values()) model.dispose();
});

/** The inputs of a step: tensors of the file, and parts of what the step before returned. */
function fill(value: unknown, output?: Value): Value {
  if (Array.isArray(value)) return value.map((each) => fill(each, output));
  if (value === null || typeof value !== 'object') return value as Value;
  const { $output } = value as { $output?: (string | number)[] };
  if ($output) return $output.reduce<unknown>((at, key) => (at as never)[key], output) as Value;
  if ('$tensor' in value) return data.tensors(value);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, fill(each, output)]));
}

function start(each: GenerationCase, options: GenerationOptions = {}) {
  const model = loaded.get(each.file) as ScriptModule;
  return model.captureGeneration(
    fill(each.steps[0]?.inputs) as Value[],
    (output, step) => {
      const following = each.steps[step + 1];
      return following && (fill(following.inputs, output) as Value[]);
    },
    { method: each.method, ...options },
  );
}

async function collect(each: GenerationCase, options: GenerationOptions = {}): Promise<GenerationStep[]> {
  const steps: GenerationStep[] = [];
  for await (const step of start(each, options)) steps.push(step);
  return steps;
}

const numbers = (reference: unknown) => data.numbers(reference) as Numbers;

/** `[B, H, Q, K]` with as many keys as `keys`: zeros to the right. */
function padded({ shape, data: values }: Numbers, keys: number): Numbers {
  const own = shape.at(-1) as number;
  const rows = values.length / own;
  return {
    shape: [...shape.slice(0, -1), keys],
    data: Array.from({ length: rows * keys }, (_, i) =>
      i % keys < own ? (values[Math.floor(i / keys) * own + (i % keys)] as number) : 0,
    ),
  };
}

const values = (tensor: Tensor | undefined) => Array.from((tensor as Tensor).toTypedArray(), Number);

describe('captureGeneration and assembleAttention', () => {
  describe.each(cases)('caches as $name', (each) => {
    test('each step has the weights that Python computes, and says where they stand', async () => {
      const steps = await collect(each);
      expect(steps.map(({ step }) => step)).toEqual(each.steps.map((_, i) => i));
      let position = 0;
      for (const [i, { queryOffset, keyLength, output, attentions }] of steps.entries()) {
        const expected = each.steps[i] as GenerationCase['steps'][number];
        expect(difference(plain((output as Value[])[0]), numbers(expected.logits), 1e-4)).toBeUndefined();
        expect(queryOffset).toBe(position);
        position += numbers(expected.logits).shape[1] as number;
        expect(attentions).toHaveLength(expected.attentions.length);
        for (const [k, attention] of attentions.entries()) {
          const { name, weights } = expected.attentions[k] as Expected;
          expect(attention.name).toBe(each.file.includes('frozen') ? '' : name);
          expect(difference(plain(attention.weights), numbers(weights), 1e-5)).toBeUndefined();
          expect(attention.keyLength).toBe(attention.weights.shape.at(-1));
          expect(attention.queryOffset).toBe(queryOffset);
        }
        expect(keyLength).toBe(Math.max(...attentions.map((attention) => attention.keyLength)));
      }
    });

    test('assembled, the steps are what one run on the whole sequence computes', async () => {
      const assembled = await assembleAttention(start(each));
      // What takes no part in a run without caches isn't in it.
      const whole = each.whole.map(({ name, weights }) => ({ name, weights: numbers(weights) }));
      const names = new Set(whole.map(({ name }) => name));
      const common = each.file.includes('frozen') ? assembled : assembled.filter(({ name }) => names.has(name));
      expect(common).toHaveLength(whole.length);
      for (const [i, attention] of common.entries()) {
        const expected = whole[i] as (typeof whole)[number];
        if (attention.name !== '') expect(attention.name).toBe(expected.name);
        const keys = attention.weights.shape.at(-1) as number;
        expect(difference(plain(attention.weights), padded(expected.weights, keys), 1e-5)).toBeUndefined();
        expect(attention.queries).toEqual(Array.from({ length: expected.weights.shape[2] as number }, (_, q) => q));
        expect(attention.shape).toEqual(attention.weights.shape);
      }
    });
  });
});

describe('captureGeneration', () => {
  test('a generation of layers that only some steps compute goes through them all', async () => {
    const each = named('an encoder in the first step');
    expect((await collect(each, { layers: ['encoder'] })).map(({ attentions }) => attentions.length)).toEqual([
      1, 0, 0, 0,
    ]);
    const recalled = await collect(each, { layers: ['recall'] });
    expect(recalled.map(({ attentions }) => attentions.length)).toEqual([0, 1, 1, 1]);
    // Positions don't depend on what was selected.
    expect(recalled.map(({ queryOffset }) => queryOffset)).toEqual([0, 4, 5, 6]);
    expect((await assembleAttention(recalled))[0]?.queries).toEqual([4, 5, 6]);
  });

  test('a step that fails rejects the generation, and the model goes on working', async () => {
    const each = named('tuples');
    const model = loaded.get(each.file) as ScriptModule;
    const first = fill(each.steps[0]?.inputs) as Value[];
    const outside = Tensor.from([[1000n], [1000n]]);
    const steps: number[] = [];
    const run = async (next: () => Value[] | Promise<Value[]>, options?: CaptureOptions) => {
      for await (const { step } of model.captureGeneration(first, next, options)) steps.push(step);
    };
    await expect(run(() => [outside, null])).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
    await expect(run(() => [5, null])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(run(() => 5 as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    const reason = new Error('no more tokens');
    await expect(run(() => Promise.reject(reason))).rejects.toBe(reason);
    expect(steps).toEqual([0, 0, 0, 0]);
    await expect(run(() => first, { maxBytes: 1 })).rejects.toMatchObject({ code: 'ERR_CAPTURE_TOO_LARGE' });
    await expect(run(() => first, { layers: ['nowhere'] })).rejects.toMatchObject({ code: 'ERR_UNKNOWN_MODULE' });
    await expect(run(() => first, { onAttention: () => {} } as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
    await expect(run(5 as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect(steps).toHaveLength(4);
    expect(await collect(each)).toHaveLength(4);
  });

  test('a layer that no step computed is an error at the end, as is no attention at all', async () => {
    const each = named('tuples');
    const steps: GenerationStep[] = [];
    const run = async () => {
      for await (const step of start(each, { layers: [0, 7, 'head'] })) steps.push(step);
    };
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_MODULE',
      message: expect.stringMatching(/7, 'head' /),
    });
    expect(steps).toHaveLength(4);
    const without = await ScriptModule.load(join(folder, '..', 'models', 'no_attention_script.pt'));
    const width = without.namedParameters().find(({ name }) => name === 'hidden.weight')?.tensor.shape[1] as number;
    const input = Tensor.from(new Float32Array(2 * width), { shape: [2, width] });
    const generation = without.captureGeneration([input], () => undefined);
    expect(await generation.next()).toMatchObject({ value: { keyLength: 0, attentions: [] } });
    await expect(generation.next()).rejects.toMatchObject({ code: 'ERR_NO_ATTENTION' });
    without.dispose();
  });

  test('a signal stops it: under way, between two steps, and while the next inputs are made', async () => {
    const each = named('tuples');
    const model = loaded.get(each.file) as ScriptModule;
    const first = fill(each.steps[0]?.inputs) as Value[];
    const stopped = new Error('stopped');

    const before = model.captureGeneration(first, () => first, { signal: AbortSignal.abort(stopped) });
    await expect(before.next()).rejects.toBe(stopped);
    expect(await before.next()).toEqual({ done: true, value: undefined });

    const between = new AbortController();
    const next = jest.fn(() => first);
    const generation = model.captureGeneration(first, next, { signal: between.signal });
    await generation.next();
    between.abort(stopped);
    await expect(generation.next()).rejects.toBe(stopped);
    expect(next).not.toHaveBeenCalled();

    const making = new AbortController();
    const waiting = model.captureGeneration(first, () => new Promise(() => {}), { signal: making.signal });
    await waiting.next();
    setTimeout(() => making.abort(stopped), 20);
    await expect(waiting.next()).rejects.toBe(stopped);
  });

  test('leaving the loop ends the generation: nothing more is asked for or run', async () => {
    const each = named('tuples');
    const model = loaded.get(each.file) as ScriptModule;
    const first = fill(each.steps[0]?.inputs) as Value[];
    const next = jest.fn(() => first);
    for await (const { step } of model.captureGeneration(first, next)) {
      if (step === 2) break;
    }
    expect(next).toHaveBeenCalledTimes(2);
  });

  test('gradients of a scalar of each step come with its attentions', async () => {
    const steps = await collect(named('tuples'), {
      gradientOf: (output) => ((output as Value[])[0] as Tensor).select(0, 0).select(0, 0).select(0, 1),
    });
    for (const { attentions } of steps) {
      for (const { weights, gradient } of attentions) {
        expect(gradient?.shape).toEqual(weights.shape);
        expect(Math.max(...values(gradient).map(Math.abs))).toBeGreaterThan(0);
      }
    }
  });
});

describe('assembleAttention', () => {
  test('a layer that leaves a step out has no rows for it, and says which positions it has', async () => {
    const steps = await collect(named('an encoder in the first step'));
    const assembled = await assembleAttention(steps);
    const shapes = Object.fromEntries(assembled.map(({ name, weights }) => [name, weights.shape]));
    expect(shapes).toEqual({
      encoder: [2, 2, 5, 5],
      'decoder.attention': [2, 2, 7, 7],
      cross: [2, 2, 7, 5],
      recall: [2, 2, 3, 6],
    });
    const recall = assembled.find(({ name }) => name === 'recall') as Attention;
    expect(recall.queries).toEqual([4, 5, 6]);
    expect(steps[1]?.attentions.map(({ name, queryOffset, keyLength }) => [name, queryOffset, keyLength])).toEqual([
      ['recall', 4, 4],
      ['decoder.attention', 4, 5],
      ['cross', 4, 5],
    ]);
  });

  test('layers and heads that were selected are assembled, and nothing else', async () => {
    const each = named('tuples');
    const all = await assembleAttention(start(each));
    const [only, ...others] = await assembleAttention(start(each, { layers: [-1], heads: [1] }));
    expect(others).toEqual([]);
    expect(only).toMatchObject({ index: 1, name: 'second.attention', heads: [1], shape: [2, 2, 7, 7] });
    expect(only?.weights.shape).toEqual([2, 1, 7, 7]);
    const second = (all[1] as Attention).weights.narrow(1, 1, 1);
    expect(values(only?.weights)).toEqual(values(second));
  });

  test('averaged heads are assembled to [B, Q, K]', async () => {
    const each = named('a dictionary');
    const [first] = await assembleAttention(start(each, { averageHeads: true }));
    expect(first?.weights.shape).toEqual([2, 7, 7]);
    const [whole] = each.whole as [Expected];
    const mean = (data.tensors(whole.weights) as Tensor).mean(1);
    expect(difference(plain(first?.weights), plain(mean), 1e-5)).toBeUndefined();
  });

  test('results of captures that the caller stepped through by hand are assembled as well', async () => {
    const each = named('a list of lists');
    const model = loaded.get(each.file) as ScriptModule;
    const captured: { attentions: Attention[] }[] = [];
    let output: Value;
    for (const { inputs } of each.steps) {
      const result = await model.captureAttention(fill(inputs, output) as Value[], { method: each.method });
      output = result.output;
      captured.push(result);
    }
    const byHand = await assembleAttention(captured);
    const generated = await assembleAttention(start(each));
    expect(byHand.map(({ queries }) => queries)).toEqual(generated.map(({ queries }) => queries));
    expect(byHand.map(({ weights }) => values(weights))).toEqual(generated.map(({ weights }) => values(weights)));
  });

  test('rows and keys that were left out can be recorded, not assembled', async () => {
    const each = named('tuples');
    const top = await collect(each, { topK: 2 });
    expect(top.map(({ attentions }) => attentions[0]?.weights.shape)).toEqual([
      [2, 2, 4, 2],
      [2, 2, 1, 2],
      [2, 2, 1, 2],
      [2, 2, 1, 2],
    ]);
    expect(top.map(({ keyLength }) => keyLength)).toEqual([4, 5, 6, 7]);
    expect(top.map(({ queryOffset }) => queryOffset)).toEqual([0, 4, 5, 6]);
    await expect(assembleAttention(top)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('topK'),
    });
    const rows = await collect(each, { queries: [0] });
    expect(rows.map(({ queryOffset }) => queryOffset)).toEqual([0, 4, 5, 6]);
    await expect(assembleAttention(rows)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('queries'),
    });
  });

  describe('a cache that drops keys', () => {
    /** Steps as a cache that holds `window` keys gives them: what they saw ahead of those is gone. */
    const windowed = (steps: GenerationStep[], window: (step: number) => number) =>
      steps.map((step, i) => ({
        ...step,
        attentions: step.attentions.map((attention) => {
          const keys = Math.min(attention.keyLength, window(i));
          const weights = attention.weights.narrow(-1, attention.keyLength - keys, keys);
          const shape = [...attention.shape.slice(0, 3), keys] as Attention['shape'];
          return { ...attention, weights, shape, keyLength: keys };
        }),
      }));

    test('keyOffset puts its keys where they stand in the sequence', async () => {
      const steps = await collect(named('tuples'));
      const whole = await assembleAttention(steps);
      const seen: [number, string][] = [];
      const assembled = await assembleAttention(
        windowed(steps, () => 5),
        {
          keyOffset: ({ name, queryOffset, queries, keyLength }, step) => {
            seen.push([step, name]);
            return queryOffset + queries.length - keyLength;
          },
        },
      );
      expect(seen).toEqual(steps.flatMap(({ step, attentions }) => attentions.map(({ name }) => [step, name])));
      expect(assembled).toHaveLength(whole.length);
      for (const [i, attention] of assembled.entries()) {
        const { shape, weights } = whole[i] as Attention;
        expect(attention).toMatchObject({ shape, queries: [0, 1, 2, 3, 4, 5, 6] });
        expect(attention.weights.shape).toEqual(weights.shape);
        // Rows are queries 0 to 6; the last two saw five keys, up to their own.
        const expected = values(weights).map((value, at) => {
          const [query, key] = [Math.floor(at / 7) % 7, at % 7];
          return query - key >= 5 ? 0 : value;
        });
        expect(values(attention.weights)).toEqual(expected);
      }
    });

    test('is refused without it where the number of keys shows it', async () => {
      const steps = await collect(named('tuples'));
      const refused = { code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(/keyOffset.*of step 2 /) };
      await expect(assembleAttention(windowed(steps, () => 5))).rejects.toMatchObject(refused);
      await expect(assembleAttention(windowed(steps, (step) => (step < 2 ? 5 : 3)))).rejects.toMatchObject(refused);
      await expect(
        assembleAttention(
          windowed(steps, () => 5),
          { keyOffset: () => 0 },
        ),
      ).resolves.toHaveLength(2);
      // As many keys in each step are those of an encoder, unless the first query saw the first alone.
      const full = windowed(steps, () => 4);
      await expect(assembleAttention(full)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(/keyOffset.*of step 1 /),
      });
      const averaged = windowed(await collect(named('tuples'), { averageHeads: true }), () => 4);
      await expect(assembleAttention(averaged)).rejects.toThrow(/keyOffset.*of step 1 /);
      for (const { attentions } of full)
        for (const each of attentions) each.weights = each.weights.add(0.1) as typeof each.weights;
      await expect(assembleAttention(full)).resolves.toHaveLength(2);
    });

    test.each<[unknown, RegExp]>([
      [{ keyOffset: 3 }, /a function for keyOffset/],
      [{ keyOffset: () => -1 }, /at least 0 for the result of keyOffset/],
      [{ keyOffset: () => 1.5 }, /the result of keyOffset/],
      [{ offset: 0 }, /keyOffset in the options of assembleAttention.*'offset'/],
      [null, /an object for the options of assembleAttention/],
    ])('%p is refused', async (options, message) => {
      await expect(assembleAttention(start(named('tuples')), options as never)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      });
    });
  });

  test('steps that do not belong together are refused, not mixed up', async () => {
    const refused = { code: 'ERR_INVALID_ARGUMENT' };
    const steps = await collect(named('tuples'));
    const other = await collect(named('tuples'), { heads: [0] });
    await expect(assembleAttention([...steps, ...other])).rejects.toMatchObject(refused);
    await expect(assembleAttention([])).rejects.toMatchObject(refused);
    await expect(assembleAttention([{ attentions: [] }])).rejects.toMatchObject(refused);
    await expect(assembleAttention(3 as never)).rejects.toMatchObject(refused);
    await expect(assembleAttention([3] as never)).rejects.toMatchObject(refused);
    await expect(assembleAttention([{ attentions: [{}] }] as never)).rejects.toMatchObject(refused);
    const frozen = await collect(named('tuples, frozen'));
    const fewer = await collect(named('tuples, frozen'), { layers: [0] });
    await expect(assembleAttention([...frozen, ...fewer])).rejects.toMatchObject(refused);
    frozen[1]?.attentions[0]?.weights.dispose();
    await expect(assembleAttention(frozen)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });
});
