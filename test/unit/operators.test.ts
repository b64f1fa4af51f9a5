import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ExportedProgram, loadOperators, setNumThreads, Tensor } from '../../lib/index';
import { load } from '../../lib/libtorch/load';
import { exportedTensors, programPath } from './exported-fixtures';
import { bits, build } from './model-fixtures';
import { argument, edited, type Json } from './program-edits';

beforeAll(() => setNumThreads(2));

const library = () => join(load().binaries.directory, 'test_operators.so');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lta-operators-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('loadOperators()', () => {
  it('has programs run that use operators of a library, which are refused by name without it', async () => {
    const tensors = await exportedTensors('custom_operator');
    const input = build({ $tensor: 'run0.in.0' }, tensors) as Tensor;
    await expect(ExportedProgram.load(programPath('custom_operator'))).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_OPERATOR',
      message: expect.stringMatching(/lta_test::scaled.*loadOperators.*torch\.library\.custom_op/),
    });
    loadOperators(library());
    loadOperators(library());
    using program = await ExportedProgram.load(programPath('custom_operator'));
    const output = await program.forward([input], { grad: true });
    expect(bits((output as Tensor).mul(1))).toEqual(bits(build({ $tensor: 'run0.out' }, tensors)));
    await (output as Tensor).sum().backward();
    expect(program.namedParameters().every(({ tensor }) => tensor.grad !== null)).toBe(true);
    await expect(ExportedProgram.load(programPath('custom_operator'), { untrusted: true })).rejects.toMatchObject({
      code: 'ERR_UNTRUSTED',
    });
  });

  it('refuses what cannot be loaded, and what would end the process', () => {
    loadOperators(library());
    const refusal = (path: unknown): { code: string; message: string } => {
      try {
        loadOperators(path as string);
      } catch (error) {
        return error as { code: string; message: string };
      }
      throw new Error('nothing was thrown');
    };
    const text = join(folder, 'text.so');
    writeFileSync(text, 'no library');
    const again = join(folder, 'again.so');
    copyFileSync(library(), again);
    for (const [path, message] of [
      [5, /path of a shared library/],
      ['', /path of a shared library/],
      [join(folder, 'none.so'), /cannot be read/],
      [text, /cannot be loaded/],
      [folder, /cannot be loaded/],
      // The same operators once more: libtorch throws while the library is opened, which ends the child process.
      [again, /cannot be loaded/],
    ] as const) {
      expect(refusal(path)).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) });
    }
  });
});

describe('operators that write, in a decomposed program', () => {
  const calls = (graph: Json): Json[] => graph.nodes.filter(({ target }: Json) => /auto_functionalized/.test(target));
  beforeAll(() => loadOperators(library()));

  it.each([0, 1])('write to copies, as in Python, in run %d', async (index) => {
    const tensors = await exportedTensors('functionalized');
    const of = (name: string) => build({ $tensor: `run${index}.${name}` }, tensors) as Tensor;
    for (const options of [{}, { optimize: true }]) {
      using program = await ExportedProgram.load<[Tensor, Tensor], Record<string, Tensor>>(
        programPath('functionalized'),
        options,
      );
      const [x, total] = [of('in.0'), of('in.1')];
      const output = await program.forward([x, total]);
      for (const [name, value] of Object.entries(output))
        expect([name, bits(value)]).toEqual([name, bits(of(`out.${name}`))]);
      expect(bits(total)).toEqual(bits(of('in.1').mul(-1)));
      expect(bits(program.stateDict()['count']!)).toEqual(bits(of('buffers.count')));
    }
  });

  it('have what they wrote to as nodes of its own', async () => {
    const tensors = await exportedTensors('functionalized');
    using program = await ExportedProgram.load<[Tensor, Tensor], Record<string, Tensor>>(programPath('functionalized'));
    const seen: Tensor[] = [];
    program.registerNodeHook('getitem_1', (_node, table: Tensor) => {
      seen.push(table);
    });
    const output = await program.forward([
      build({ $tensor: 'run0.in.0' }, tensors) as Tensor,
      build({ $tensor: 'run0.in.1' }, tensors) as Tensor,
    ]);
    expect(bits(seen[0]!)).toEqual(bits(output['table']!));
  });

  it('are read in the form that earlier releases wrote', async () => {
    const bytes = edited('functionalized', ({ graph }) => {
      for (const call of calls(graph).slice(1)) {
        call.target = 'torch.ops.higher_order.auto_functionalized';
        const { name } = argument(call, '_all_bases').arg.as_tensors[0];
        call.inputs = [call.inputs[0], { name: 'x', arg: { as_tensor: { name } }, kind: 2 }];
      }
    });
    const tensors = await exportedTensors('functionalized');
    const of = (name: string) => build({ $tensor: `run0.${name}` }, tensors) as Tensor;
    using program = await ExportedProgram.load<[Tensor, Tensor], Record<string, Tensor>>(bytes);
    const output = await program.forward([of('in.0'), of('in.1')]);
    for (const [name, value] of Object.entries(output))
      expect([name, bits(value)]).toEqual([name, bits(of(`out.${name}`))]);
  });

  it.each<[string, string, RegExp, (call: Json) => void]>([
    [
      'a tensor beyond those',
      'ERR_MODEL_LOAD',
      /isn't given/,
      (call) => (argument(call, '_sum_base_index').arg = { as_int: 2 }),
    ],
    [
      'a negative one',
      'ERR_MODEL_LOAD',
      /isn't given/,
      (call) => (argument(call, '_sum_base_index').arg = { as_int: -1 }),
    ],
    [
      'a tensor for a number',
      'ERR_MODEL_LOAD',
      /no integer/,
      (call) => (argument(call, '_sum_base_index').arg = { as_tensor: { name: 'x' } }),
    ],
    [
      'more of a list than there is',
      'ERR_MODEL_LOAD',
      /lacks the argument/,
      (call) => (argument(call, '_rest_length').arg = { as_int: 2 ** 40 }),
    ],
    ['no operator', 'ERR_MODEL_LOAD', /calls no operator/, (call) => call.inputs.shift()],
    [
      'one of another library',
      'ERR_UNKNOWN_OPERATOR',
      /'other::accumulate'/,
      (call) => (call.inputs[0].arg.as_operator = 'torch.ops.other.accumulate.default'),
    ],
    ['one of Python', 'ERR_MODEL_LOAD', /has an operator/, (call) => (call.inputs[0].arg.as_operator = 'os.system')],
    ['fewer results', 'ERR_MODEL_LOAD', /fewer values/, (call) => call.outputs.splice(1)],
    ['more results', 'ERR_MODEL_LOAD', /more values/, (call) => call.outputs.unshift({ as_none: true })],
    [
      'tensors that it makes',
      'ERR_UNSUPPORTED_FILE',
      /makes itself/,
      (call) => call.inputs.push({ name: '_sum_dtype', arg: { as_int: 1 }, kind: 2 }),
    ],
  ])('are refused with %s', async (_what, code, message, change) => {
    const bytes = edited('functionalized', ({ graph }) => {
      change(calls(graph)[0]);
    });
    await expect(ExportedProgram.load(bytes)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

describe('operators with effects, in a decomposed program', () => {
  const calls = (graph: Json): Json[] => graph.nodes.filter(({ target }: Json) => /with_effects/.test(target));
  const run = async (bytes: Uint8Array | string, options = {}, input?: Tensor) => {
    const tensors = await exportedTensors('effects');
    const of = (name: string) => build({ $tensor: `run1.${name}` }, tensors) as Tensor;
    using program = await ExportedProgram.load<[Tensor], Record<string, Tensor>>(bytes as string, options);
    const output = await program.forward([input ?? of('in.0')]);
    return Object.entries(output).map(([name, value]) => [name, bits(value), bits(of(`out.${name}`))]);
  };
  const token = (name: string) => ({ as_tensor: { name } });

  it.each([{}, { optimize: true }])('give what they give in Python, with %o', async (options) => {
    for (const [name, bitsHere, bitsThere] of await run(programPath('effects'), options))
      expect([name, bitsHere]).toEqual([name, bitsThere]);
  });

  it('may check linear algebra in a program of an untrusted source', async () => {
    const bytes = edited('effects', ({ graph }) => {
      calls(graph)[3].inputs = calls(graph)[1].inputs.map(({ ...input }: Json) => input);
      calls(graph)[3].inputs[0] = { ...calls(graph)[3].inputs[0], arg: token('getitem_4') };
      calls(graph)[3].outputs[1] = token('getitem_10');
      graph.outputs[3] = token('getitem_5');
    });
    const outputs = await run(bytes, { untrusted: true });
    for (const [name, bitsHere, bitsThere] of outputs.filter(([name]) => name === 'inverse' || name === 'indices'))
      expect([name, bitsHere]).toEqual([name, bitsThere]);
    await expect(run(programPath('effects'), { untrusted: true })).rejects.toMatchObject({
      code: 'ERR_UNTRUSTED',
      message: expect.stringMatching(/_foreach_add/),
    });
  });

  it('fail as in Python', async () => {
    const bytes = edited('effects', ({ graph }) => {
      graph.nodes.find(({ name }: Json) => name === 'linalg_inv_ex').inputs[0].arg = token('x');
    });
    await expect(run(bytes, {}, Tensor.zeros([2, 4, 4]))).rejects.toMatchObject({
      code: 'ERR_MODEL_RUN',
      message: expect.stringMatching(/with_effects_4.*linalg\.inv.*singular/),
    });
  });

  it('have a token for each kind of effects', async () => {
    const bytes = edited('effects', ({ graph, program }) => {
      const { signature } = program.graph_module;
      graph.inputs.unshift(token('other'));
      graph.outputs.splice(1, 0, token('getitem_19'));
      graph.outputs[0] = token('getitem_7');
      graph.tensor_values.other = graph.tensor_values.token;
      signature.input_specs.unshift({ token: { arg: { name: 'other' } } });
      signature.output_specs.unshift({ token: { arg: { name: 'getitem_7' } } });
      calls(graph)[4].inputs[0].arg = token('other');
    });
    for (const [name, bitsHere, bitsThere] of await run(bytes)) expect([name, bitsHere]).toEqual([name, bitsThere]);
  });

  it('have tokens that are tensors, for whatever takes them', async () => {
    const bytes = edited('effects', ({ graph }) => {
      graph.nodes.find(({ name }: Json) => name === 'linalg_inv_ex').inputs[0].arg = token('getitem_7');
    });
    await expect(run(bytes)).rejects.toMatchObject({
      code: 'ERR_MODEL_RUN',
      message: expect.stringMatching(/linalg_inv/),
    });
  });

  it.each<[string, string, RegExp, (call: Json) => void]>([
    ['no token', 'ERR_MODEL_LOAD', /passes on no token/, (call) => (call.inputs[0].arg = { as_int: 1 })],
    ['no argument', 'ERR_MODEL_LOAD', /passes on no token/, (call) => (call.inputs = [call.inputs[1]])],
    ['no result', 'ERR_MODEL_LOAD', /passes on no token/, (call) => (call.outputs = [])],
    ['a token that another gives', 'ERR_MODEL_LOAD', /two values/, (call) => (call.outputs[0] = token('add'))],
    ['no operator', 'ERR_MODEL_LOAD', /calls no operator/, (call) => call.inputs.splice(1, 1)],
    ['more results', 'ERR_MODEL_LOAD', /more values/, (call) => call.outputs.push(token('more'))],
    [
      'a higher-order operator',
      'ERR_UNSUPPORTED_FILE',
      /'call_torchbind'/,
      (call) => (call.inputs[1].arg.as_operator = 'torch.ops.higher_order.call_torchbind'),
    ],
  ])('are refused with %s', async (_what, code, message, change) => {
    const bytes = edited('effects', ({ graph }) => {
      change(calls(graph)[1]);
    });
    await expect(ExportedProgram.load(bytes)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });
});
