import { join } from 'node:path';
import { type HookedModule, type RemovableHandle, ScriptModule, Tensor, type Value } from '../../lib/index';
import { Data, difference, folder, type HookCase, isNumbers, type Numbers, plain, readCases } from './hook-fixtures';

/** The leaves of a value that are tensors, in order. */
function leaves(value: Value): Tensor[] {
  if (value instanceof Tensor) return [value];
  if (value === null || typeof value !== 'object') return [];
  return Object.values(value).flatMap((each) => leaves(each as Value));
}

function scaledFirst(value: Value, factor: number): Value {
  if (value instanceof Tensor) return value.mul(factor);
  if (Array.isArray(value)) return [scaledFirst(value[0], factor), ...value.slice(1)];
  const [key, first] = Object.entries(value as Record<string, Value>)[0] as [string, Value];
  return { ...(value as Record<string, Value>), [key]: scaledFirst(first, factor) };
}

/**
 * A traced module takes each tensor that flows into it once, in an order of tracing's own: every tensor that Python's hook
 * sees has to be there; gradients of one tensor that was passed several times arrive as their sum.
 */
function flowing(received: unknown[], expected: unknown[], tolerance: number, gradients: boolean): string | undefined {
  const tensors = expected.filter(isNumbers);
  if (gradients) {
    const sum = (list: Numbers[]) =>
      list
        .filter(({ shape }) => String(shape) === String(tensors[0]?.shape))
        .reduce<Numbers | undefined>(
          (total, { shape, data }) => ({ shape, data: data.map((x, i) => x + (total?.data[i] ?? 0)) }),
          undefined,
        );
    return difference(sum(received.filter(isNumbers)), sum(tensors), tolerance, [], 'sum of the input gradients');
  }
  const missing = tensors.findIndex((each) => !received.some((one) => !difference(one, each, tolerance)));
  return missing < 0 ? undefined : `input: tensor ${missing} isn't among those that the hook saw`;
}

/**
 * A module that has two names in Python becomes two modules that share their parameters when it is scripted, and is called
 * by its first name when it is traced (Python's own `named_modules()` of the loaded file lists both).
 */
function namesOf({ data }: HookCase, path: string, traced: boolean): string[] {
  if (data !== 'two_names.safetensors' || !['first', 'second'].includes(path)) return [path];
  return traced ? ['first'] : ['first', 'second'];
}

async function replay(
  model: ScriptModule,
  data: Data,
  given: HookCase,
  tolerance: number,
  traced: boolean,
): Promise<void> {
  const events: { hook: number; input: unknown[]; output?: unknown; path: string }[] = [];
  const handles: RemovableHandle[] = given.hooks.flatMap(({ kind, path, scale }, hook) => {
    const seen = (module: HookedModule, input: unknown, output?: unknown): void => {
      events.push({ hook, input: plain(input) as unknown[], output: plain(output), path: module.name });
    };
    return namesOf(given, path, traced).map((name) => {
      if (kind === 'pre') {
        return model.registerForwardPreHook(name, (module, input) => {
          seen(module, input);
          return scale === undefined ? undefined : (scaledFirst(input, scale) as Value[]);
        });
      }
      if (kind === 'forward') {
        return model.registerForwardHook(name, (module, input, output) => {
          seen(module, input, output);
          return scale === undefined ? undefined : scaledFirst(output, scale);
        });
      }
      return model.registerFullBackwardHook(name, (module, input, output) => {
        seen(module, input, output);
        return scale === undefined ? undefined : input.map((gradient) => gradient?.mul(scale) ?? null);
      });
    });
  });
  try {
    const inputs = data.tensors(given.inputs) as Value[];
    if (given.inputGrad)
      for (const tensor of leaves(inputs)) if (tensor.dtype === 'float32') tensor.requiresGrad = true;
    const before = new Map(model.namedParameters().map(({ name, tensor }) => [name, plain(tensor.grad)]));
    const output = await model.forward(inputs, { grad: given.grad });
    if (given.lossWeights) {
      const weights = data.tensors(given.lossWeights) as Tensor[];
      const [first, ...others] = leaves(output).map((leaf, i) => leaf.mul(weights[i] as Tensor).sum());
      await others.reduce((sum, each) => sum.add(each), first as Tensor).backward();
    }

    const shown = (list: { hook: number }[]) =>
      list.map(({ hook }) => `${given.hooks[hook]?.kind} '${given.hooks[hook]?.path}'`);
    expect(shown(events)).toEqual(shown(given.events.map(([hook]) => ({ hook }))));
    given.events.forEach(([hook, input, output], i) => {
      const event = events[i] as (typeof events)[number];
      const where = `event ${i}, ${given.hooks[hook]?.kind} '${given.hooks[hook]?.path}'`;
      expect(namesOf(given, given.hooks[hook]?.path as string, traced)).toContain(event.path);
      const expected = data.numbers(input) as unknown[];
      const found =
        traced && event.input.length < expected.length
          ? flowing(event.input, expected, tolerance, given.hooks[hook]?.kind === 'backward')
          : // TorchScript passes defaults too: Python's hooks see what was passed by position.
            difference(event.input.slice(0, expected.length), expected, tolerance, given.padded, 'input');
      expect(found && `${where}: ${found}`).toBeUndefined();
      if (output === undefined) return;
      // A traced module gives only what is used of a tuple.
      const used = (value: unknown) => (traced && Array.isArray(value) ? value.filter(isNumbers) : value);
      let whole = used(data.numbers(output));
      if (Array.isArray(whole) && isNumbers(event.output)) whole = whole[0];
      expect(difference(used(event.output), whole, tolerance, given.padded, `${where}: output`)).toBeUndefined();
    });
    expect(difference(plain(output), data.numbers(given.output), tolerance, given.padded, 'output')).toBeUndefined();
    for (const [name, expected] of Object.entries(given.gradients ?? {})) {
      const parameter = model.namedParameters().find((each) => each.name === name);
      const now = plain(parameter?.tensor.grad ?? null) as { shape: number[]; data: number[] };
      const earlier = before.get(name) as { data: number[] } | null;
      const added = { shape: now.shape, data: now.data.map((x, i) => x - (earlier?.data[i] ?? 0)) };
      expect(difference(added, data.numbers(expected), 2 * tolerance, [], `gradient of ${name}`)).toBeUndefined();
    }
    for (const [i, expected] of (given.inputGradients ?? []).entries()) {
      if (expected === null) continue;
      const gradient = plain((inputs[i] as Tensor).grad);
      expect(difference(gradient, data.numbers(expected), tolerance, [], `gradient of input ${i}`)).toBeUndefined();
    }
  } finally {
    for (const handle of handles) handle.remove();
  }
}

const cases = readCases().flatMap((given) =>
  given.files.map((file) => ({ given, file, title: `${given.name}, ${file}` })),
);
const models = new Map<string, Promise<ScriptModule>>();

// Some are hooks on what isn't called: that each is reported once is for hooks.test.
beforeAll(() => {
  jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
});
afterAll(async () => {
  jest.restoreAllMocks();
  for (const model of models.values()) (await model).dispose();
});

describe('registerForwardPreHook, registerForwardHook and registerFullBackwardHook', () => {
  test('the fixtures are there', () => {
    expect(cases.length).toBeGreaterThan(60);
  });

  test.each(cases)("fires as Python's hooks do: $title", async ({ given, file }) => {
    const data = await Data.read(given.data);
    let model = models.get(file);
    if (!model) models.set(file, (model = ScriptModule.load(join(folder, file))));
    // The first runs of a graph are watched by libtorch and then optimized: all of them have to agree.
    for (let run = 0; run < 3; run++) await replay(await model, data, given, 1e-5, file.includes('_trace'));
  });
});
