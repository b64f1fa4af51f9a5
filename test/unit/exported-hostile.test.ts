import { ExportedProgram, Tensor, type TorchError, type Value } from '../../lib/index';
import { archiveOf, type Records, recordsOf } from './archive-edits';
import { exportedCase, exportedTensors, inputsOfRun } from './exported-fixtures';
import { argument, bytesOf, edited, firstNode, type Json } from './program-edits';

// What anyone may put into a .pt2 file: each is an error with a code, and nothing ends the process.

async function refusal(bytes: Uint8Array, options = {}): Promise<TorchError> {
  const loaded = await ExportedProgram.load(bytes, options).then(
    () => 'loaded',
    (error: unknown) => error,
  );
  expect(loaded).toMatchObject({ name: 'TorchError', code: expect.stringMatching(/^ERR_/) });
  return loaded as TorchError;
}

/** Runs what may be broken: it gives a value or an error with a code. */
async function runs(program: ExportedProgram, name: string): Promise<void> {
  const { inputs, kwargs } = inputsOfRun(exportedCase(name).runs[0]!, await exportedTensors(name));
  const limits = { timeLimit: 2000, memoryLimit: 2 ** 30 };
  for (const run of [
    () => program.forward(inputs, { kwargs, ...limits }),
    () => program.captureAttention(inputs, { kwargs, ...limits }),
  ]) {
    const error: unknown = await run().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (error !== undefined) expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_/) });
  }
}

describe('a .pt2 file that is cut off anywhere', () => {
  it('is refused', async () => {
    const whole = bytesOf('structures');
    for (let size = 0; size < whole.length; size += 1 + (size % 7)) {
      const { code } = await refusal(new Uint8Array(whole.subarray(0, size)));
      if (code !== 'ERR_MODEL_LOAD') expect({ size, code }).toEqual({ size, code: 'ERR_MODEL_LOAD' });
    }
  });
});

describe('flipped bytes', () => {
  it.each([
    ['branches', 'models/model.json', 400],
    ['hand_written', 'models/model.json', 400],
    ['hand_written', 'data/weights/model_weights_config.json', 300],
    ['symbols', 'models/model.json', 300],
  ])('in %s, %s, give an error or a program that runs', async (name, record, count) => {
    const records = recordsOf(bytesOf(name));
    const original = records[record]!;
    let seed = 1;
    const random = (below: number): number => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    let loaded = 0;
    for (let i = 0; i < count; ++i) {
      const bytes = Buffer.from(original);
      for (let flips = random(3) + 1; flips > 0; --flips) bytes[random(bytes.length)]! ^= 1 << random(8);
      const archive = archiveOf({ ...records, [record]: bytes });
      try {
        using program = await ExportedProgram.load(archive);
        ++loaded;
        await runs(program, name);
      } catch (error) {
        expect(error).toMatchObject({ name: 'TorchError', code: expect.stringMatching(/^ERR_/) });
      }
    }
    expect(loaded).toBeLessThan(count);
  });
});

describe('weights', () => {
  const big = 2 ** 40;
  const cases: [string, string, (weight: Json, all: Json, records: Records) => void][] = [
    [
      'more elements than their record',
      'ERR_MODEL_LOAD',
      (weight) => (weight.tensor_meta.sizes = [{ as_int: big }, { as_int: 16 }]),
    ],
    ['strides out of bounds', 'ERR_MODEL_LOAD', (weight) => (weight.tensor_meta.strides[0] = { as_int: big })],
    ['negative strides', 'ERR_MODEL_LOAD', (weight) => (weight.tensor_meta.strides[0] = { as_int: -1 })],
    ['negative sizes', 'ERR_MODEL_LOAD', (weight) => (weight.tensor_meta.sizes[0] = { as_int: -1 })],
    [
      'products beyond 64 bits',
      'ERR_MODEL_LOAD',
      (weight) => {
        weight.tensor_meta.sizes = [{ as_int: 2 ** 32 }, { as_int: 2 ** 32 }];
        weight.tensor_meta.strides = [{ as_int: 2 ** 32 }, { as_int: 2 ** 32 }];
      },
    ],
    ['an offset behind the end', 'ERR_MODEL_LOAD', (weight) => (weight.tensor_meta.storage_offset = { as_int: 1 })],
    [
      'elements without end of one',
      'ERR_MODEL_LOAD',
      (weight) => {
        weight.tensor_meta.sizes = [{ as_int: 2 ** 31 }, { as_int: 2 ** 31 }];
        weight.tensor_meta.strides = [{ as_int: 0 }, { as_int: 0 }];
      },
    ],
    [
      'more dimensions than any tensor',
      'ERR_MODEL_LOAD',
      (weight) => {
        weight.tensor_meta.sizes = Array.from({ length: 70 }, () => ({ as_int: 1 }));
        weight.tensor_meta.strides = weight.tensor_meta.sizes;
      },
    ],
    ['other numbers of sizes and strides', 'ERR_MODEL_LOAD', (weight) => weight.tensor_meta.strides.pop()],
    [
      'sizes that are terms',
      'ERR_MODEL_LOAD',
      (weight) => (weight.tensor_meta.sizes[0] = { as_expr: { expr_str: 'Symbol("s0")' } }),
    ],
    ['a type nobody knows', 'ERR_UNSUPPORTED_FILE', (weight) => (weight.tensor_meta.dtype = 99)],
    ['a wider type than there are bytes for', 'ERR_MODEL_LOAD', (weight) => (weight.tensor_meta.dtype = 8)],
    ['gradients of integers', 'ERR_MODEL_LOAD', (weight) => (weight.tensor_meta.dtype = 4)],
    ['a sparse layout', 'ERR_UNSUPPORTED_FILE', (weight) => (weight.tensor_meta.layout = 2)],
    ['a pickle', 'ERR_UNSUPPORTED_FILE', (weight) => (weight.use_pickle = true)],
    ['no description', 'ERR_MODEL_LOAD', (weight) => delete weight.tensor_meta],
    ['a record that is not there', 'ERR_MODEL_LOAD', (weight) => (weight.path_name = '../../etc/passwd')],
    ['a record that is no weight', 'ERR_MODEL_LOAD', (weight) => (weight.path_name = 'model_weights_config.json/../x')],
    ['no record', 'ERR_MODEL_LOAD', (weight, _, records) => delete records[`data/weights/${weight.path_name}`]],
    [
      'an empty record',
      'ERR_MODEL_LOAD',
      (weight, _, records) => (records[`data/weights/${weight.path_name}`] = new Uint8Array(0)),
    ],
    [
      'another name',
      'ERR_MODEL_LOAD',
      (weight, all) => {
        all['other'] = weight;
        delete all['query.weight'];
      },
    ],
  ];
  it.each(cases)('with %s are %s', async (_, code, change) => {
    const bytes = edited('hand_written', ({ weights, records }) => change(weights['query.weight'], weights, records));
    expect((await refusal(bytes)).code).toBe(code);
  });

  it('whose bytes changed are found by verify', async () => {
    const bytes = Buffer.from(archiveOf(recordsOf(bytesOf('hand_written'))));
    const name = 'm/data/weights/weight_0';
    const at = bytes.indexOf(name) + name.length + 8;
    bytes[at]! ^= 0x40;
    using program = await ExportedProgram.load(bytes);
    expect(program.disposed).toBe(false);
    for (const options of [{ verify: true }, { untrusted: true }]) {
      expect(await refusal(bytes, options)).toMatchObject({
        code: 'ERR_MODEL_LOAD',
        message: expect.stringMatching(/weight_0.*checksum/),
      });
    }
  });

  it('are the same compressed, and where records begin anywhere', async () => {
    for (const compressed of [true, false]) {
      using program = await ExportedProgram.load(edited('hand_written', () => {}, { compressed }));
      await runs(program, 'hand_written');
    }
  });
});

describe('a graph', () => {
  const deepGraph = (levels: number): Json => {
    let graph: Json = {
      inputs: [],
      outputs: [],
      nodes: [],
      tensor_values: {},
      sym_int_values: {},
      sym_bool_values: {},
    };
    for (let i = 0; i < levels; ++i) {
      graph = {
        ...graph,
        nodes: [
          {
            target: 'torch.ops.higher_order.invoke_subgraph',
            inputs: [{ name: '', arg: { as_graph: { name: 'g', graph } } }],
            outputs: [],
            metadata: {},
          },
        ],
      };
    }
    return graph;
  };
  const cases: [string, string, RegExp, (graph: Json, program: Json) => void][] = [
    [
      'an operator that is not there',
      'ERR_UNKNOWN_OPERATOR',
      /aten::nothing/,
      (graph) => (firstNode(graph, /linear/).target = 'torch.ops.aten.nothing.default'),
    ],
    [
      'an operator of a library',
      'ERR_UNKNOWN_OPERATOR',
      /mine::op\.out/,
      (graph) => (firstNode(graph, /linear/).target = 'torch.ops.mine.op.out'),
    ],
    [
      'an operator without a name',
      'ERR_MODEL_LOAD',
      /torch\.ops\.aten/,
      (graph) => (firstNode(graph, /linear/).target = 'torch.ops.aten'),
    ],
    [
      'a function of Python',
      'ERR_UNSUPPORTED_FILE',
      /os\.system/,
      (graph) => (firstNode(graph, /linear/).target = 'os.system'),
    ],
    [
      'a higher-order operator of Python',
      'ERR_UNSUPPORTED_FILE',
      /flex_attention/,
      (graph) => (firstNode(graph, /linear/).target = 'torch.ops.higher_order.flex_attention'),
    ],
    ['nodes that need each other', 'ERR_MODEL_LOAD', /before it/, (graph) => graph.nodes.reverse()],
    [
      'a value that none gives',
      'ERR_MODEL_LOAD',
      /'nowhere'/,
      (graph) => (argument(firstNode(graph, /linear/), 'input').arg = { as_tensor: { name: 'nowhere' } }),
    ],
    [
      'a node that uses itself',
      'ERR_MODEL_LOAD',
      /before it/,
      (graph) => {
        const node = firstNode(graph, /linear/);
        argument(node, 'input').arg = { as_tensor: { name: node.outputs[0].as_tensor.name } };
      },
    ],
    ['two values of one name', 'ERR_MODEL_LOAD', /two values/, (graph) => graph.nodes.push(graph.nodes[0])],
    [
      'an argument too few',
      'ERR_MODEL_LOAD',
      /lacks the argument 'weight'/,
      (graph) => (firstNode(graph, /linear/).inputs = firstNode(graph, /linear/).inputs.slice(0, 1)),
    ],
    [
      'an argument too many',
      'ERR_MODEL_LOAD',
      /'other'/,
      (graph) => firstNode(graph, /linear/).inputs.push({ name: 'other', arg: { as_int: 1 } }),
    ],
    [
      'a constant of another type',
      'ERR_MODEL_LOAD',
      /'input'/,
      (graph) => (argument(firstNode(graph, /linear/), 'input').arg = { as_string: 'x' }),
    ],
    [
      'a number of no dtype',
      'ERR_MODEL_LOAD',
      /dtype/,
      (graph) => firstNode(graph, /softmax/).inputs.push({ name: 'dtype', arg: { as_int: 9999 } }),
    ],
    [
      'an argument of two kinds',
      'ERR_MODEL_LOAD',
      /one member/,
      (graph) => (argument(firstNode(graph, /linear/), 'input').arg = { as_int: 1, as_float: 2 }),
    ],
    [
      'an object of a custom class',
      'ERR_UNSUPPORTED_FILE',
      /as_custom_obj/,
      (graph) => (argument(firstNode(graph, /linear/), 'input').arg = { as_custom_obj: { name: 'x', class_fqn: 'y' } }),
    ],
    [
      'more values than an operator gives',
      'ERR_MODEL_LOAD',
      /more values/,
      (graph) => firstNode(graph, /linear/).outputs.push({ as_tensor: { name: 'more' } }),
    ],
    [
      'an input without a place in the signature',
      'ERR_MODEL_LOAD',
      /number of inputs/,
      (graph) => graph.inputs.push({ as_tensor: { name: 'more' } }),
    ],
    ['an output without one', 'ERR_MODEL_LOAD', /number of outputs/, (graph) => graph.outputs.push(graph.outputs[0])],
    [
      'a weight without a name',
      'ERR_MODEL_LOAD',
      /'nowhere'/,
      (_, { graph_module: { signature } }) => (signature.input_specs[0].parameter.parameter_name = 'nowhere'),
    ],
    [
      'a token of another name',
      'ERR_MODEL_LOAD',
      /token/,
      (_, { graph_module: { signature } }) => (signature.input_specs[0] = { token: { arg: { name: 'x' } } }),
    ],
    [
      'an object',
      'ERR_UNSUPPORTED_FILE',
      /custom classes/,
      (_, { graph_module: { signature } }) => (signature.input_specs[0] = { custom_obj: {} }),
    ],
    [
      'no form of its inputs',
      'ERR_MODEL_LOAD',
      /form values/,
      (_, { graph_module }) => (graph_module.module_call_graph = []),
    ],
    [
      'another number of leaves',
      'ERR_MODEL_LOAD',
      /form values/,
      (_, { graph_module }) => {
        const [call] = graph_module.module_call_graph;
        call.signature.in_spec = call.signature.in_spec.replace(
          '"children_spec": []}',
          '"children_spec": []}, {"type": null, "context": null, "children_spec": []}',
        );
      },
    ],
    [
      'inputs nested without end',
      'ERR_MODEL_LOAD',
      /nested too deep/,
      (_, { graph_module }) => {
        const [call] = graph_module.module_call_graph;
        call.signature.out_spec = `[1, ${'{"type": "builtins.list", "context": "null", "children_spec": ['.repeat(500)}${']}'.repeat(500)}]`;
      },
    ],
    ['graphs nested without end', 'ERR_MODEL_LOAD', /nested too deep/, (graph) => (graph.nodes = deepGraph(200).nodes)],
    ['a later schema', 'ERR_UNSUPPORTED_FILE', /a later PyTorch/, (_, program) => (program.schema_version.major = 9)],
    ['an older schema', 'ERR_UNSUPPORTED_FILE', /an older PyTorch/, (_, program) => (program.schema_version.major = 7)],
    ['nothing', 'ERR_MODEL_LOAD', /graph_module|member/, (_, program) => delete program.graph_module.graph],
  ];
  it.each(cases)('with %s is %s', async (_, code, message, change) => {
    expect(await refusal(edited('hand_written', ({ graph, program }) => change(graph, program)))).toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it('of a million brackets is an error', async () => {
    for (const text of [
      '['.repeat(1e6),
      '{"a":'.repeat(1e6),
      `${'['.repeat(1e6)}${']'.repeat(1e6)}`,
      '',
      'null',
      '"',
      '\0',
    ]) {
      const records = recordsOf(bytesOf('hand_written'));
      records['models/model.json'] = Buffer.from(text);
      expect((await refusal(archiveOf(records))).code).toBe('ERR_MODEL_LOAD');
    }
  });

  it('with graphs of another number of inputs fails in its run, with the node', async () => {
    const bytes = edited('branches', ({ graph }) => {
      firstNode(graph, /cond$/).inputs[1].arg.as_graph.graph.inputs.pop();
      for (const node of firstNode(graph, /cond$/).inputs[1].arg.as_graph.graph.nodes) {
        for (const input of node.inputs)
          if (input.arg.as_tensor)
            input.arg.as_tensor.name = firstNode(graph, /cond$/).inputs[1].arg.as_graph.graph.inputs[0].as_tensor.name;
      }
    });
    using program = await ExportedProgram.load(bytes);
    const ones = Tensor.from(new Float32Array(48).fill(1), { shape: [3, 16] });
    await expect(program.forward([ones])).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
  });

  it('that divides by zero, or by numbers too large, fails in its run', async () => {
    const bytes = edited('symbols', ({ graph }) => {
      const node = firstNode(graph, /floordiv/);
      node.inputs[1].arg = { as_int: 0 };
    });
    using program = await ExportedProgram.load(bytes);
    const { inputs } = inputsOfRun(exportedCase('symbols').runs[0]!, await exportedTensors('symbols'));
    await expect(program.forward(inputs as Value[])).rejects.toMatchObject({
      code: 'ERR_MODEL_RUN',
      message: expect.stringMatching(/zero/),
    });
  });
});

describe('a file from an untrusted source', () => {
  it.each(['torch.ops.aten.as_strided.default', 'torch.ops.aten.from_file.default', 'torch.ops.prim.device.default'])(
    'may not use %s',
    async (target) => {
      const bytes = edited('hand_written', ({ graph }) => {
        const node = firstNode(graph, /linear/);
        node.target = target;
      });
      expect((await refusal(bytes, { untrusted: true })).code).toMatch(/^ERR_(UNTRUSTED|UNKNOWN_OPERATOR)$/);
    },
  );
});

describe('files of other kinds are refused by what they are:', () => {
  const kinds: [string, string, RegExp, Uint8Array][] = [
    [
      'an archive of AOTInductor',
      'ERR_UNSUPPORTED_FILE',
      /AOTInductor/,
      archiveOf({
        archive_format: Buffer.from('pt2'),
        archive_version: Buffer.from('0'),
        'data/aotinductor/model/a.so': Buffer.from('x'),
      }),
    ],
    [
      'a TorchScript archive',
      'ERR_MODEL_LOAD',
      /ScriptModule\.load/,
      archiveOf({ 'constants.pkl': Buffer.from('x'), 'data.pkl': Buffer.from('x') }),
    ],
    ['what torch.save wrote', 'ERR_MODEL_LOAD', /torch\.save/, archiveOf({ 'data.pkl': Buffer.from('x') })],
    [
      'no weights',
      'ERR_MODEL_LOAD',
      /lacks the record 'data\/weights\/model\.pt'/,
      edited('hand_written', ({ records }) => delete records['data/weights/model_weights_config.json']),
    ],
    [
      'another format',
      'ERR_MODEL_LOAD',
      /archive_format/,
      edited('hand_written', ({ records }) => (records['archive_format'] = Buffer.from('pt9'))),
    ],
    [
      'a later version',
      'ERR_UNSUPPORTED_FILE',
      /version/,
      edited('hand_written', ({ records }) => (records['archive_version'] = Buffer.from('1'))),
    ],
    [
      'another byte order',
      'ERR_MODEL_LOAD',
      /byte order/,
      edited('hand_written', ({ records }) => (records['byteorder'] = Buffer.from('big'))),
    ],
    ['no archive', 'ERR_MODEL_LOAD', /zip archive/, Buffer.from('hello, this is no archive at all')],
    ['nothing', 'ERR_MODEL_LOAD', /empty/, new Uint8Array(0)],
  ];
  it.each(kinds)('%s is %s', async (_, code, message, bytes) => {
    expect(await refusal(bytes)).toMatchObject({ code, message: expect.stringMatching(message) });
  });
});
