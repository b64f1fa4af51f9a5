import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ExportedProgram, HookedModel, type ProgramModule, setNumThreads, Tensor, type Value } from '../../lib/index';
import { EXPORTED, exportedCase, exportedTensors, inputsOfRun, programPath } from './exported-fixtures';
import { bits, build, difference, isRounded, rounded, tensorsIn } from './model-fixtures';

// Other numbers of threads add up in another order: this is the number that the fixtures were made with.
beforeAll(() => setNumThreads(2));

/** A call of a module, as Python's hooks saw it; scripts/make_exported_hook_fixtures.py says what the manifest has. */
interface Call {
  module: string;
  input: unknown[];
  output: unknown;
  /** Tensors that it was given by name. */
  named?: unknown[];
}

interface HookCase {
  name: string;
  inputs: unknown[];
  kwargs: Record<string, unknown>;
  output: unknown;
  calls: Call[];
  replaced: { module: string; kind: 'pre' | 'forward'; output: unknown }[];
  gradients: Call[];
}

const cases = JSON.parse(readFileSync(join(EXPORTED, 'hooks.json'), 'utf8')) as HookCase[];

async function loaded(name: string) {
  const each = cases.find((one) => one.name === name)!;
  const tensors = await exportedTensors(name);
  const made = (value: unknown) => build(value, tensors);
  return {
    ...each,
    made,
    program: await ExportedProgram.load(programPath(name)),
    /** The inputs of a run, in tensors of their own. */
    given: () => [made(each.inputs) as Value[], { kwargs: made(each.kwargs) as Record<string, Value> }] as const,
  };
}

type Loaded = Awaited<ReturnType<typeof loaded>>;

const hookable = (program: ExportedProgram, path: string): ProgramModule['hookable'] =>
  program.modules().find(({ name }) => name === path)!.hookable;

/** The code of what is thrown. */
function refused(call: () => unknown): { code: string; message: string } {
  try {
    call();
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error('nothing was thrown');
}

/** Half of a value: its floating-point tensors. */
function halved<Each extends Value>(value: Each): Each {
  if (value instanceof Tensor) return (value.dtype === 'float32' ? value.mul(0.5) : value) as Each;
  if (Array.isArray(value)) return value.map(halved) as Each;
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, halved(each as Value)])) as Each;
  }
  return value;
}

/** What a run gave, once all its tensors are copied: what hooks get may be written to later. */
const kept = (value: Value): unknown => rounded(value);

const DECOMPOSED = ['encoder_decomposed', 'three_kinds_decomposed', 'product_read_decomposed'];

it.each(DECOMPOSED)(
  'hooks see the same calls and values with optimize where layers were taken apart (%s)',
  async (name) => {
    const inputs = () => inputsOfRun(exportedCase(name).runs[0]!, tensors).inputs;
    const tensors = await exportedTensors(name);
    const seen = async (optimize: boolean) => {
      using program = await ExportedProgram.load(programPath(name), { optimize });
      const calls: { name: string; values: Tensor[] }[] = [];
      const note = (path: string, values: Value) => {
        calls.push({ name: path, values: tensorsIn(values).map((tensor) => tensor.mul(1)) });
      };
      for (const { name: path, hooks } of program.modules()) {
        if (hooks.includes('pre')) program.registerForwardPreHook(path, (_module, input) => note(`to ${path}`, input));
        if (hooks.includes('forward')) {
          program.registerForwardHook(path, (_module, _input, output) => note(`from ${path}`, output));
        }
      }
      note('output', await program.forward(inputs()));
      return calls;
    };
    const [plain, optimized] = [await seen(false), await seen(true)];
    const described = (calls: typeof plain) =>
      calls.map(({ name: path, values }) => [path, ...values.map(({ shape }) => shape)]);
    expect(plain.length).toBeGreaterThan(3);
    expect(described(optimized)).toEqual(described(plain));
    const differing = plain.filter(
      ({ values }, i) => !values.every((tensor, k) => isRounded(optimized[i]!.values[k]!, tensor)),
    );
    expect(differing.map(({ name: path }) => path)).toEqual([]);
  },
);

describe.each(cases.map(({ name }) => name))('hooks on the modules of %s', (name) => {
  let fixture: Loaded;
  beforeAll(async () => {
    fixture = await loaded(name);
  });
  afterAll(() => fixture.program.dispose());

  it('get what the hooks of Python get, call by call', async () => {
    const { program, calls, made, given, output } = fixture;
    const seen = new Map<string, { input: unknown[]; output: unknown }[]>();
    // Before they are written to.
    const before = new Map<string, unknown[][]>();
    const handles = program.modules().flatMap(({ name: path, hooks }) => {
      const noteInput = (input: Value[]) => {
        before.set(path, [...(before.get(path) ?? []), tensorsIn(input).map(kept)]);
      };
      const note = (input: Value[], result: Value) => {
        seen.set(path, [...(seen.get(path) ?? []), { input: kept(input) as unknown[], output: kept(result) }]);
      };
      return [
        ...(hooks.includes('pre') ? [program.registerForwardPreHook(path, (_module, input) => noteInput(input))] : []),
        ...(hooks.includes('forward')
          ? [program.registerForwardHook(path, (_module, input, result) => note(input, result))]
          : []),
      ];
    });
    const [inputs, options] = given();
    expect(kept(await program.forward(inputs, options))).toEqual(kept(made(output)));
    for (const handle of handles) handle.remove();
    for (const path of new Set(calls.map(({ module }) => module))) {
      const ours = seen.get(path);
      if (!ours) continue;
      const theirs = calls.filter(({ module }) => module === path);
      expect({ path, calls: ours.length }).toEqual({ path, calls: theirs.length });
      for (const [i, call] of theirs.entries()) {
        const [input, result] = [made(call.input), made(call.output)] as [Value[], Value];
        if (hookable(program, path) === 'exact') {
          expect({ path, input: ours[i]!.input, output: ours[i]!.output }).toEqual({
            path,
            input: kept(input),
            output: kept(result),
          });
        } else {
          expect(tensorsIn(result).map(kept)).toContainEqual(ours[i]!.output);
          const all = tensorsIn([...input, ...(made(call.named ?? []) as Value[])]).map(kept);
          for (const leaf of before.get(path)?.[i] ?? []) expect(all).toContainEqual(leaf);
        }
      }
    }
  });

  it('replace what passes as the hooks of Python do', async () => {
    const { program, replaced, made, given } = fixture;
    for (const { module, kind, output } of replaced) {
      const handle =
        kind === 'pre'
          ? program.registerForwardPreHook(module, (_module, input: Value[]) => halved(input))
          : program.registerForwardHook(module, (_module, _input, result: Value) => halved(result));
      const [inputs, options] = given();
      const found = kept(await program.forward(inputs, options));
      expect({ module, kind, calls: handle.calls > 0 }).toEqual({ module, kind, calls: true });
      handle.remove();
      expect({ module, kind, found }).toEqual({ module, kind, found: kept(made(output)) });
    }
  });

  it('get the gradients that the hooks of Python get', async () => {
    const { program, gradients, made, given } = fixture;
    for (const module of new Set(gradients.map((each) => each.module))) {
      const theirs = gradients.filter((each) => each.module === module);
      const got: (Tensor | null)[][][] = [];
      const handle = program.registerFullBackwardHook(module, (_module, ...both) => {
        got.push(both);
      });
      const [inputs, options] = given();
      const result = await program.forward(inputs, { ...options, grad: true });
      const squares = tensorsIn(result).map((each) => each.mul(each).sum());
      await squares.reduce((sum, each) => sum.add(each)).backward();
      handle.remove();
      expect(got).toHaveLength(theirs.length);
      for (const [i, call] of theirs.entries()) {
        for (const side of [0, 1]) {
          const expected = (made(side === 0 ? call.input : call.output) as (Tensor | null)[]).filter((each) => each);
          const found = got[i]![side]!.filter((each) => each !== null);
          expect({ module, side, count: found.length }).toEqual({ module, side, count: expected.length });
          for (const [k, each] of found.entries()) expect(difference(each, expected[k]!)).toBeLessThanOrEqual(1e-5);
        }
      }
    }
  });
});

describe('ExportedProgram.modules()', () => {
  it('says which hooks each module takes', async () => {
    const { program } = await loaded('hooked_parts');
    const found = Object.fromEntries(program.modules().map(({ name, hookable: each }) => [name, each]));
    expect(found).toEqual({
      '': 'exact',
      table: 'exact',
      'table.linear': 'exact',
      twice: 'exact',
      'twice.inner': 'single',
      both: 'exact',
      attention: 'exact',
      'attention.out_proj': false,
      norm: 'exact',
    });
    const plain = (await loaded('hooked_parts_plain')).program;
    expect(hookable(plain, 'twice')).toBe('single');
    expect(plain.modules().find(({ name }) => name === 'table')).toMatchObject({ hookable: false, hooks: [] });
  });

  it.each(cases.map(({ name }) => name))('lists the kinds of hooks that can be put, of %s', async (name) => {
    const { program } = await loaded(name);
    const register = {
      pre: (path: string) => program.registerForwardPreHook(path, () => {}),
      forward: (path: string) => program.registerForwardHook(path, () => {}),
      backward: (path: string) => program.registerFullBackwardHook(path, () => {}),
    };
    for (const { name: path, hookable: each, hooks } of program.modules()) {
      expect({ path, some: hooks.length > 0 }).toEqual({ path, some: each !== false });
      for (const kind of ['pre', 'forward', 'backward'] as const) {
        if (hooks.includes(kind)) register[kind](path).remove();
        else expect(refused(() => register[kind](path)).code).toBe('ERR_NOT_HOOKABLE');
      }
    }
  });

  it('tells sides that are clear by themselves', async () => {
    const { program } = await loaded('hooked_bert');
    const hooksOf = (path: string) => program.modules().find(({ name }) => name === path)!.hooks;
    // It is given a mask beside the hidden states.
    expect(hooksOf('encoder.layer.1')).toEqual(['forward']);
    expect(hooksOf('encoder.layer.1.intermediate')).toEqual(['pre', 'forward', 'backward']);
  });

  it('has hooks refused where the graph tells nothing', async () => {
    const { program } = await loaded('hooked_parts_plain');
    const error = refused(() => program.registerForwardHook('table', () => {}));
    expect(error.code).toBe('ERR_NOT_HOOKABLE');
    expect(error.message).toMatch(/preserve_module_call_signature=\('table',\).*registerNodeHook/);
    expect(refused(() => program.registerForwardHook('nowhere', () => {})).code).toBe('ERR_UNKNOWN_MODULE');
  });

  it('says of lists of modules that they are never called', async () => {
    const { program } = await loaded('hooked_bert');
    expect(program.modules()).toContainEqual({ name: 'encoder.layer', type: '', hookable: false, hooks: [] });
    const { code, message } = refused(() => program.registerForwardHook('encoder.layer', () => {}));
    expect([code, message]).toEqual([
      'ERR_NOT_HOOKABLE',
      expect.stringMatching(/'encoder\.layer', which holds modules/),
    ]);
  });

  it('has hooks on modules that write to their input and give it back', async () => {
    const { program, given, calls, made } = await loaded('hooked_inplace');
    const writes = program.modules().find(({ name }) => name === 'writes')!;
    expect(writes).toMatchObject({ hookable: 'single', hooks: ['pre', 'forward'] });
    const seen: unknown[] = [];
    program.registerForwardPreHook('writes', (_module, [x]) => void seen.push(kept(x)));
    const recording = program.registerForwardHook('writes', (_module, _input, output) => void seen.push(kept(output)));
    await program.forward(...given());
    const [call] = calls.filter(({ module }) => module === 'writes');
    expect(seen).toEqual([kept(made(call!.input[0])), kept(made(call!.output))]);
    recording.remove();
    // What reads the result may also hold the input, which is the same tensor.
    program.registerForwardHook('writes', (_module, _input, output: Tensor) => output.mul(2));
    await expect(program.forward(...given())).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED' });
  });
});

describe('hooks on programs', () => {
  it('fail where what they return cannot take the place of what was there', async () => {
    const { program, given } = await loaded('hooked_parts');
    const failure = async (register: () => { remove(): void }) => {
      const handle = register();
      const [inputs, options] = given();
      const error: unknown = await program.forward(inputs, options).catch((thrown: unknown) => thrown);
      handle.remove();
      return error as { code: string; message: string; cause?: unknown };
    };
    const shape = await failure(() => program.registerForwardHook('norm', () => Tensor.zeros([1])));
    expect(shape).toMatchObject({ code: 'ERR_HOOK_FAILED' });
    expect(shape.message).toMatch(/output 0 of module 'norm'.*shape \[1\]/);
    const kept = await failure(() =>
      program.registerForwardHook('both', (_module, _input, [x, y]: Tensor[]) => [x!.mul(2), y!]),
    );
    expect(kept.message).toMatch(/output 0 of module 'both' to stay as it is/);
    const thrice = await failure(() =>
      program.registerForwardPreHook('attention', (_module, [q, k, v]: Tensor[]) => [q!.mul(2), k!, v!]),
    );
    expect(thrice.message).toMatch(/one value for inputs 0 and 1/);
    const form = await failure(() => program.registerForwardHook('table', () => ({ sum: Tensor.zeros([1]) })));
    expect(form).toMatchObject({ code: 'ERR_HOOK_FAILED' });
    const cause = new Error('of my own');
    expect(
      await failure(() =>
        program.registerForwardHook('norm', () => {
          throw cause;
        }),
      ),
    ).toMatchObject({ code: 'ERR_HOOK_FAILED', cause });
  });

  it('do not replace what the graph takes for one value with another', async () => {
    const { program, calls, given, made, output } = await loaded('hooked_same');
    const [inputs, options] = given();
    const seen: unknown[] = [];
    const recording = program.registerForwardPreHook('norm', (_module, [x]) => {
      seen.push(kept(x));
    });
    expect(kept(await program.forward(inputs, options))).toEqual(kept(made(output)));
    recording.remove();
    expect(seen).toEqual([kept(made(calls.find(({ module }) => module === 'norm')!.input[0]))]);
    program.registerForwardPreHook('norm', (_module, [x]: Tensor[]) => x!.mul(0.5));
    await expect(program.forward(inputs, options)).rejects.toMatchObject({
      code: 'ERR_HOOK_FAILED',
      message: expect.stringMatching(/input 0 of module 'norm' to stay as it is.*who reads it/),
    });
    expect(refused(() => program.registerFullBackwardHook('norm', () => {})).code).toBe('ERR_NOT_HOOKABLE');
  });

  it('are refused in backward passes where one tensor stands for several', async () => {
    const { program } = await loaded('hooked_parts');
    for (const path of ['attention', 'both']) {
      const error = refused(() => program.registerFullBackwardHook(path, () => {}));
      expect(error.code).toBe('ERR_NOT_HOOKABLE');
      expect(error.message).toMatch(/cannot be told apart/);
    }
    const error = refused(() => program.registerFullBackwardHook('table', () => {}));
    expect(error).toMatchObject({ code: 'ERR_NOT_HOOKABLE', message: expect.stringMatching(/a tuple of tensors/) });
  });

  it('may be asynchronous, several on one module, and take part in captures', async () => {
    const { program, made, given, replaced } = await loaded('hooked_encoder');
    const order: string[] = [];
    program.registerForwardHook('layers.0', async (_module, _input, output: Tensor) => {
      order.push('first');
      await new Promise((resolve) => setTimeout(resolve, 5));
      return output.mul(0.5);
    });
    program.registerForwardHook('layers.0', () => {
      order.push('second');
    });
    const [inputs, options] = given();
    const expected = replaced.find(({ module }) => module === 'layers.0')!.output;
    const { output, attentions } = await program.captureAttention(inputs, options);
    expect(rounded(output)).toEqual(rounded(made(expected)));
    expect(attentions).toHaveLength(2);
    expect(order).toEqual(['first', 'second']);
  });

  it('fire in runs of other sizes, and several runs at once', async () => {
    const { program } = await loaded('hooked_encoder');
    const shapes: number[][] = [];
    program.registerForwardHook('layers.1.linear1', (_module, [x]: [Tensor], output: Tensor) => {
      shapes.push([...x.shape], [...output.shape]);
    });
    await Promise.all([3, 7, 20].map((length) => program.forward([Tensor.zeros([2, length, 16])])));
    expect(shapes).toHaveLength(6);
    expect(shapes.map(([, length]) => length).sort((a, b) => a! - b!)).toEqual([3, 3, 7, 7, 20, 20]);
  });
});

describe('HookedModel of a program', () => {
  it('records inputs, outputs and gradients by name', async () => {
    const { program, calls, made, given } = await loaded('hooked_parts');
    const hooked = new HookedModel(program);
    hooked.setForwardHook('table', 'table');
    hooked.setForwardPreHook('norm in', 'norm');
    hooked.setForwardHook('mean', 'twice', (_module, [x]: [Tensor], output: Tensor) => [[x], output.mean(1)]);
    hooked.setBackwardHook('gradients', 'norm');
    const [inputs, options] = given();
    const output = (await program.forward(inputs, { ...options, grad: true })) as Tensor;
    await output.sum().backward();
    const callOf = (path: string) => calls.filter(({ module }) => module === path).at(-1)!;
    const table = hooked.hooks.get('table')!;
    expect(rounded(table.input)).toEqual(rounded(made(callOf('table').input)));
    expect(rounded(table.output!)).toEqual(rounded(made(callOf('table').output)));
    expect(rounded(hooked.hooks.get('norm in')!.input)).toEqual(rounded(made(callOf('norm').input)));
    expect(hooked.hooks.get('norm in')!.output).toBeUndefined();
    expect(
      difference(hooked.hooks.get('mean')!.output as Tensor, (made(callOf('twice').output) as Tensor).mean(1)),
    ).toBe(0);
    const gradients = hooked.hooks.get('gradients')!;
    expect((gradients.output as Tensor[])[0]!.shape).toEqual(output.shape);
    expect((gradients.input[0] as Tensor).shape).toEqual(output.shape);
  });
});

describe('ExportedProgram.registerNodeHook()', () => {
  it('gives and replaces the value of any node by name', async () => {
    const { program, calls, made, given, output } = await loaded('hooked_parts_plain');
    const [inputs, options] = given();
    const nodes = program.nodes();
    const linear = nodes.find(({ operator, module }) => operator === 'aten::linear' && module === 'twice.inner')!;
    let seen: Value = null;
    const handle = program.registerNodeHook(linear.name, (node, value) => {
      expect(node).toEqual(linear);
      seen = value;
    });
    expect(rounded(await program.forward(inputs, options))).toEqual(rounded(made(output)));
    expect(handle.calls).toBe(1);
    expect(rounded(seen)).toEqual(rounded(made(calls.find(({ module }) => module === 'twice.inner')!.output)));
    handle.remove();
    // Replacing every output of a module's is replacing its nodes'.
    const all = nodes.filter(({ operator, module }) => operator === 'aten::linear' && module === 'twice.inner');
    const handles = all.map(({ name }) => program.registerNodeHook(name, (_node, value: Tensor) => value.mul(0.5)));
    const byNodes = bits(await program.forward(inputs, options));
    for (const each of handles) each.remove();
    program.registerForwardHook('twice.inner', (_module, _input, value: Tensor) => value.mul(0.5));
    expect(bits(await program.forward(inputs, options))).toEqual(byNodes);
  });

  it('replaces inputs and parameters of the graph, and tells wrong names and values', async () => {
    const { program, given, made, output } = await loaded('hooked_parts_plain');
    const [inputs, options] = given();
    const weight = program.nodes().find(({ name }) => name === 'p_norm_weight')!;
    expect(weight.operator).toBe('placeholder');
    const handle = program.registerNodeHook(weight.name, (_node, value: Tensor) => value.mul(0));
    const bias = program.namedParameters().find(({ name }) => name === 'norm.bias')!.tensor;
    const silenced = (await program.forward(inputs, options)) as Tensor;
    expect(bits(silenced.select(0, 0).select(0, 0))).toEqual(bits(bias));
    handle.remove();
    expect(rounded(await program.forward(inputs, options))).toEqual(rounded(made(output)));
    expect(refused(() => program.registerNodeHook('nothing', () => {})).code).toBe('ERR_INVALID_ARGUMENT');
    expect(refused(() => program.registerNodeHook(weight.name, 1 as never)).code).toBe('ERR_INVALID_ARGUMENT');
    program.registerNodeHook('x', () => Tensor.zeros([1]));
    await expect(program.forward(inputs, options)).rejects.toMatchObject({
      code: 'ERR_HOOK_FAILED',
      message: expect.stringMatching(/the value of node 'x'.*shape \[1\]/),
    });
  });

  it('reaches the nodes of conditions and loops', async () => {
    using program = await ExportedProgram.load(programPath('branches'));
    const inner = program.nodes().filter(({ name }) => name.includes('.'));
    expect(inner.length).toBeGreaterThan(3);
    const linear = inner.find(({ operator }) => operator === 'aten::linear')!;
    const handle = program.registerNodeHook(linear.name, (_node, value: Tensor) => value.mul(0));
    const [chosen] = (await program.forward([
      Tensor.from(new Float32Array(48).fill(1), { shape: [3, 16] }),
    ])) as Tensor[];
    expect(handle.calls).toBe(1);
    expect([...(chosen!.toTypedArray() as Float32Array)].every((each) => each === 0)).toBe(true);
  });
});
