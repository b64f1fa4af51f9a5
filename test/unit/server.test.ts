import { gzipSync } from 'node:zlib';
import Fastify from 'fastify';
import { DTYPES, type DType, infoOf } from '../../lib/core/dtype';
import { ExportedProgram, ScriptModule, Tensor } from '../../lib/index';
import { createServer, libtorchServer } from '../../lib/server';
import { exportedCase, exportedTensors, inputsOfRun, programPath } from './exported-fixtures';
import { fixture, inputsOf, path } from './model-fixtures';
import { binaryBody, bytesOf, type Client, echo, listen, scriptFile, serve } from './server-fixtures';

/** A tensor as an input of a JSON request. */
function jsonInput(name: string, tensor: Tensor): object {
  const { shape, dtype } = tensor;
  const data = /^u?int64$/.test(dtype) ? (tensor.to({ dtype: 'float64' }).toArray() as unknown[]) : tensor.toArray();
  return { name, datatype: infoOf(dtype).openInference, shape, data: shape.length === 0 ? [data] : data };
}

/** Some of them have operators that programs of unknown origin may not. */
const trusted = (name: string) => ({ source: programPath(name), untrusted: false });

const x = { name: 'x', datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4] };

describe('health and metadata', () => {
  test('a server says that it lives, what it is, and what its models are', async () => {
    const client = await serve({ echo: echo(), structures: programPath('structures') });
    expect(await client.get('/v2/health/live')).toMatchObject({ status: 200, json: { live: true } });
    expect(await client.get('/v2/health/ready')).toMatchObject({ status: 200, json: { ready: true } });
    expect((await client.get('/v2')).json).toMatchObject({
      name: 'libtorch-attention',
      version: expect.stringMatching(/^\d/),
      extensions: expect.arrayContaining(['binary_tensor_data']),
    });
    expect((await client.get('/v2/models/echo')).json).toEqual({
      name: 'echo',
      versions: ['1'],
      platform: 'libtorch',
      inputs: [{ name: 'x', datatype: 'ANY', shape: [-1] }],
      outputs: [{ name: 'output', datatype: 'ANY', shape: [-1] }],
    });
    expect(await client.get('/v2/models/echo/ready')).toMatchObject({
      status: 200,
      json: { name: 'echo', ready: true },
    });
    expect((await client.get('/v2/models/structures')).json).toMatchObject({
      inputs: [
        { name: 'table_a', datatype: 'FP32', shape: [2, 3] },
        { name: 'table_b_0', datatype: 'FP32', shape: [2, 3] },
        { name: 'pair_0', datatype: 'FP32', shape: [2, 3] },
        { name: 'pair_1', datatype: 'FP32', shape: [2, 3] },
        { name: 'scale', datatype: 'FP64', shape: [1], optional: true },
        { name: 'flag', datatype: 'BOOL', shape: [1], optional: true },
        { name: 'nothing', optional: true },
      ],
      outputs: expect.arrayContaining([
        { name: 'output.sum', datatype: 'FP32', shape: [2, 3] },
        { name: 'output.pair.left', datatype: 'FP32', shape: [2, 3] },
      ]),
    });
    const index = (await client.post('/v2/repository/index', {})).json;
    expect(index).toEqual([
      { name: 'echo', version: '1', state: 'READY', reason: '' },
      { name: 'structures', version: '1', state: 'READY', reason: '' },
    ]);
  });

  test('sizes that may differ are -1', async () => {
    const client = await serve({ gpt2: trusted('gpt2_cache') });
    const { inputs } = (await client.get('/v2/models/gpt2')).json;
    expect(inputs[1]).toEqual({ name: 'cache_key_cache_0', datatype: 'FP32', shape: [2, 2, -1, 8] });
  });

  test('a warm-up tells what a TorchScript file does not: types and ranks', async () => {
    const request = { inputs: [{ name: 'x', datatype: 'INT64', shape: [1, 2], data: [1, 2] }] };
    const client = await serve({ echo: { source: echo(), warmUp: [request] } });
    expect((await client.get('/v2/models/echo')).json).toMatchObject({
      inputs: [{ name: 'x', datatype: 'INT64', shape: [-1, -1] }],
      outputs: [{ name: 'output', datatype: 'INT64', shape: [-1, -1] }],
    });
  });

  test('versions of a model have addresses, and requests get the highest by default', async () => {
    const times = (factor: number) =>
      scriptFile(
        `times${factor}`,
        `def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  return torch.mul(x, ${factor})\n`,
      );
    const versions = [9, 10].map((factor) => ({ source: times(factor), version: String(factor) }));
    const client = await serve({ times: versions });
    expect((await client.get('/v2/models/times')).json.versions).toEqual(['10', '9']);
    const of = async (name: string) => (await client.infer(name, [x])).json;
    expect(await of('times')).toMatchObject({ model_version: '10', outputs: [{ data: [10, 20, 30, 40] }] });
    expect(await of('times/versions/9')).toMatchObject({ model_version: '9', outputs: [{ data: [9, 18, 27, 36] }] });
    expect((await client.get('/v2/models/times/versions/9/ready')).status).toBe(200);
    expect(await client.get('/v2/models/times/versions/8')).toMatchObject({
      status: 404,
      json: { code: 'ERR_UNKNOWN_MODEL' },
    });
  });
});

describe('tensors', () => {
  let client: Client;
  beforeEach(async () => {
    client = await serve({ echo: echo() });
  });

  test('every type comes back bit by bit, as JSON and as bytes, in every combination', async () => {
    for (const dtype of Object.keys(DTYPES) as DType[]) {
      const datatype = infoOf(dtype).openInference;
      if (datatype === undefined) continue;
      const tensor = Tensor.from(
        [
          [0, 1, 1],
          [0, 0, 1],
        ],
        { dtype },
      );
      const bytes = bytesOf(tensor);
      for (const binary of [true, false]) {
        const { body, headers } = binaryBody([{ name: 'x', datatype, shape: [2, 3], bytes }], {
          parameters: { binary_data_output: binary },
        });
        const ofBytes = await client.post('/v2/models/echo/infer', body, { headers });
        const ofJson = await client.infer('echo', [jsonInput('x', tensor)], {
          parameters: { binary_data_output: binary },
        });
        for (const { status, json, bytes: received } of [ofBytes, ofJson]) {
          expect(status).toBe(200);
          expect(json.outputs[0]).toMatchObject({ name: 'output', datatype, shape: [2, 3] });
          if (binary) expect(received).toEqual(bytes);
          else expect(json.outputs[0].data.map(Number)).toEqual([0, 1, 1, 0, 0, 1]);
        }
      }
    }
  });

  test('outputs of types that the protocol lacks are refused by name, others of the same model are given', async () => {
    const path = scriptFile(
      'mixed',
      'def forward(self: __torch__.M, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:\n' +
        '  return (x, torch.complex(x, x), torch.quantize_per_tensor(x, 0.5, 0, 12))\n',
    );
    client = await serve({ mixed: { source: path, untrusted: false } });
    const expected = { error: expect.stringMatching(/'output.1' is complex64/) };
    expect(await client.infer('mixed', [x])).toMatchObject({ status: 400, json: expected });
    const quantized = await client.infer('mixed', [x], { outputs: [{ name: 'output.2' }] });
    expect(quantized).toMatchObject({ status: 400, json: { error: expect.stringMatching(/'output.2' is qint8/) } });
    const { status, json } = await client.infer('mixed', [x], { outputs: [{ name: 'output.0' }] });
    expect({ status, data: json.outputs[0].data }).toEqual({ status: 200, data: [1, 2, 3, 4] });
  });

  test('halves, infinities and numbers beyond doubles survive JSON as far as it goes', async () => {
    // With quotes, and without, as Python's json writes them; those of strings stay what they are.
    for (const [datatype, data] of ['FP16', 'BF16', 'FP32', 'FP64'].flatMap((each) =>
      ['["NaN","-Infinity",0.1,-0]', '[NaN,-Infinity,0.1,-0],"note":"NaN, \\"Infinity"'].map((given) => [each, given]),
    )) {
      const body = `{"inputs":[{"name":"x","datatype":"${datatype}","shape":[4],"data":${data}}]}`;
      const { json } = await client.post('/v2/models/echo/infer', Buffer.from(body));
      const [nan, infinity, tenth, zero] = json.outputs[0].data;
      expect([nan, infinity, zero]).toEqual(['NaN', '-Infinity', -0]);
      expect(Math.abs(tenth - 0.1)).toBeLessThan(1e-3);
    }
    // A string without an end, in which each quote may seem to begin another.
    const endless = Buffer.from(`{"x":NaN,"y":"${'\\"'.repeat(100_000)}\\`);
    expect(await client.post('/v2/models/echo/infer', endless)).toMatchObject({
      status: 400,
      json: { error: expect.stringMatching(/JSON/) },
    });
    const { body, headers } = binaryBody(
      [{ name: 'x', datatype: 'INT64', shape: [1], bytes: bytesOf(Tensor.from([2n ** 62n + 1n])) }],
      { outputs: [{ name: 'output' }] },
    );
    const response = await fetch(`${client.url}/v2/models/echo/infer`, {
      method: 'POST',
      body: new Uint8Array(body),
      headers,
    });
    expect(await response.text()).toContain('[4611686018427387905]');
    const rounded = await client.infer('echo', [{ name: 'x', datatype: 'INT64', shape: [1], data: [2 ** 60] }]);
    expect(rounded).toMatchObject({ status: 400, json: { error: expect.stringContaining('send it as binary data') } });
  });

  test('null stands for what is not there, as clients whose requests are made of classes write it', async () => {
    const parameters = { content_type: 'np', headers: null };
    const inputs = [{ ...x, parameters }];
    const nothing = { id: null, outputs: null, parameters: null };
    expect(await client.infer('echo', inputs, nothing)).toMatchObject({
      status: 200,
      json: { outputs: [{ data: [1, 2, 3, 4] }] },
    });
    const body = Buffer.from(
      '{"inputs":[{"name":"x","datatype":"FP32","shape":[0],"data":null,"parameters":{"binary_data_size":0}}]}',
    );
    const headers = { 'Inference-Header-Content-Length': String(body.length) };
    expect((await client.post('/v2/models/echo/infer', body, { headers })).status).toBe(200);
    const without = await client.infer('echo', [{ ...x, data: null }]);
    expect(without.headers.get('content-type')).toBe('application/json'); // KServe's client reads no error of another type
    expect([without.status, without.json.error]).toEqual([
      400,
      expect.stringMatching(/an array for data of input 'x'/),
    ]);
  });

  test('data may be nested or flat, of any rank, and empty', async () => {
    for (const [shape, data] of [
      [
        [2, 2],
        [
          [1, 2],
          [3, 4],
        ],
      ],
      [[], [7]],
      [[0, 3], []],
    ]) {
      const { json } = await client.infer('echo', [{ name: 'x', datatype: 'FP32', shape, data }]);
      expect(json.outputs[0]).toMatchObject({ shape, data: (data as number[]).flat() });
    }
  });

  test('ids come back, bodies may be compressed, and say that they are anything', async () => {
    const body = gzipSync(JSON.stringify({ id: 'a', inputs: [x] }));
    const headers = { 'Content-Encoding': 'gzip', 'Content-Type': 'application/x-www-form-urlencoded' };
    const { status, json } = await client.post('/v2/models/echo/infer', body, { headers });
    expect([status, json.id]).toEqual([200, 'a']);
    expect(json.outputs[0].data).toEqual([1, 2, 3, 4]);
  });

  test.each([
    ['no JSON', 'x', /JSON/],
    ['no object', [], /Expected an object for the body/],
    ['no inputs', {}, /Expected an array for inputs/],
    ['an unknown type', { inputs: [{ ...x, datatype: 'FP8' }] }, /BF16.*for datatype of input 'x'/],
    [
      'a shape that is none',
      { inputs: [{ ...x, shape: [4, -1] }] },
      /at least 0 for shape\[1\] of input 'x' but received -1/,
    ],
    [
      'data of another size',
      { inputs: [{ ...x, shape: [3] }] },
      /Expected 3 elements for shape \[3\] of input 'x' but received 4/,
    ],
    ['ragged data', { inputs: [{ ...x, data: [[1], [2, 3]] }] }, /rows of equal length/],
    ['texts in a tensor of numbers', { inputs: [{ ...x, data: ['a', 'b', 'c', 'd'] }] }, /numbers/],
    ['an input twice', { inputs: [x, x] }, /once but received it twice/],
    [
      'an input that the model has not',
      { inputs: [{ ...x, name: 'y' }] },
      /Expected an input 'x' \(Tensor\) but received 'y'/,
    ],
    ['an input too many', { inputs: [x, { ...x, name: 'y' }] }, /Expected inputs of the names x but received 'y'/],
    [
      'an output that the model has not',
      { inputs: [x], outputs: [{ name: 'y' }] },
      /outputs among output but received 'y'/,
    ],
    [
      'bytes that are not there',
      { inputs: [{ ...x, data: undefined, parameters: { binary_data_size: 16 } }] },
      /16 bytes.*received 0/,
    ],
    [
      'memory that is shared',
      { inputs: [{ ...x, parameters: { shared_memory_region: 'r' } }] },
      /shared_memory_region/,
    ],
    [
      'BYTES for a tensor',
      { inputs: [{ name: 'x', datatype: 'BYTES', shape: [1], data: ['a'] }] },
      /numbers or booleans for 'x'/,
    ],
    ['an id that is none', { id: 1, inputs: [x] }, /a string for id/],
  ])('%s is refused, and says why', async (_, body, message) => {
    const { status, json } = await client.post(
      '/v2/models/echo/infer',
      typeof body === 'string' ? Buffer.from(body) : body,
    );
    expect(json).toEqual({ error: expect.stringMatching(message), code: 'ERR_INVALID_ARGUMENT' });
    expect(status).toBe(400);
  });

  test('a header length that is none, and bytes that nothing belongs to, are refused', async () => {
    const { body, headers } = binaryBody([{ name: 'x', datatype: 'FP32', shape: [1], bytes: new Uint8Array(4) }]);
    const ask = (given: Uint8Array, length: string) =>
      client.post('/v2/models/echo/infer', given, {
        headers: { ...headers, 'Inference-Header-Content-Length': length },
      });
    for (const length of ['0', '-1', 'x', String(body.length + 1)]) {
      expect(await ask(body, length)).toMatchObject({
        status: 400,
        json: { error: expect.stringContaining('Content-Length') },
      });
    }
    const longer = Buffer.concat([body, Buffer.alloc(4)]);
    expect(await ask(longer, headers['Inference-Header-Content-Length'] as string)).toMatchObject({
      status: 400,
      json: { error: expect.stringContaining('Expected 4 bytes of binary data') },
    });
    expect((await client.post('/v2/models/echo/infer', Buffer.alloc(0))).status).toBe(400);
  });

  test('addresses and models that are not there are 404', async () => {
    expect(await client.infer('other', [x])).toMatchObject({ status: 404, json: { code: 'ERR_UNKNOWN_MODEL' } });
    expect(await client.get('/v3')).toMatchObject({ status: 404, json: { code: 'ERR_NOT_FOUND' } });
  });
});

describe('values of other forms', () => {
  test('tuples, lists, dictionaries, optional values, numbers and texts have flattened names', async () => {
    const client = await serve({ nested: path('nested.pt') });
    expect((await client.get('/v2/models/nested')).json.inputs).toEqual([
      { name: 'pair.0', datatype: 'ANY', shape: [-1] },
      { name: 'pair.1', datatype: 'INT64', shape: [1] },
      { name: 'items.*', datatype: 'ANY', shape: [-1] },
      { name: 'table.*', datatype: 'ANY', shape: [-1] },
      { name: 'maybe', datatype: 'ANY', shape: [-1], optional: true },
      { name: 'flag', datatype: 'BOOL', shape: [1] },
      { name: 'name', datatype: 'BYTES', shape: [1] },
      { name: 'rate', datatype: 'FP64', shape: [1] },
      { name: 'numbers', datatype: 'INT64', shape: [-1] },
    ]);
    const [pair, items, table] = (await inputsOf(fixture('nested'))) as [[Tensor, number], Tensor[], { shift: Tensor }];
    const one = (name: string, datatype: string, ...data: unknown[]) => ({
      name,
      datatype,
      shape: [data.length],
      data,
    });
    const { status, json } = await client.infer('nested', [
      jsonInput('pair.0', pair[0]),
      one('pair.1', 'INT32', 2),
      ...items.map((item, i) => jsonInput(`items.${i}`, item)),
      jsonInput('table.shift', table.shift),
      one('flag', 'BOOL', true),
      one('name', 'BYTES', 'hidden'),
      one('rate', 'FP32', 0.5),
      one('numbers', 'INT64', 3, 4),
    ]);
    expect(status).toBe(200);
    const model = await ScriptModule.load(path('nested.pt'));
    const output = (await model.forward(await inputsOf(fixture('nested')))) as [{ out: Tensor }];
    const found = new Map<string, { datatype: string; data: unknown[] }>(
      json.outputs.map((each: { name: string }) => [each.name, each]),
    );
    expect(found.get('output.0.out')?.data).toEqual([...(output[0].out.toTypedArray() as Float32Array)]);
    expect(found.get('output.4.0')).toMatchObject({ datatype: 'INT64', data: [2] });
    expect(found.get('output.4.1')).toMatchObject({ datatype: 'BYTES', data: ['hidden'] });
    expect(found.get('output.5.1')).toMatchObject({ datatype: 'FP64', data: [1] });
    model.dispose();
  });

  test('empty lists and dictionaries are tensors of nothing; what is left out is said', async () => {
    const forward = `def forward(self: __torch__.M, items: List[Tensor], table: Dict[str, Tensor], bias: Optional[Tensor]=None) -> int:
  return torch.add(torch.len(items), torch.len(table))
`;
    const client = await serve({ counts: scriptFile('counts', forward) });
    const nothing = (name: string) => ({ name, datatype: 'FP32', shape: [0], data: [] });
    const { json } = await client.infer('counts', [nothing('items'), nothing('table')]);
    expect(json.outputs).toEqual([{ name: 'output', datatype: 'INT64', shape: [1], data: [0] }]);
    const some = await client.infer('counts', [
      { ...x, name: 'items.1' },
      { ...x, name: 'items.0' },
      { ...x, name: 'table.a.b' },
    ]);
    expect(some.json.outputs[0].data).toEqual([3]);
    expect((await client.infer('counts', [nothing('items')])).json.error).toMatch(/Expected an input 'table\.…'/);
    const gap = await client.infer('counts', [{ ...x, name: 'items.1' }, nothing('table')]);
    expect(gap.json.error).toMatch(/Expected an input 'items\.0'/);
  });

  test.each(['structures', 'gpt2_cache', 'bert_dynamic', 'encoder_bfloat16', 'llama'])(
    'a program of torch.export (%s) gives the same bits as in a program',
    async (name) => {
      const client = await serve({ program: trusted(name) });
      const program = await ExportedProgram.load(programPath(name));
      const tensors = await exportedTensors(name);
      const [run] = exportedCase(name).runs as [never];
      const { inputs, kwargs } = inputsOfRun(run, tensors);
      const leaves: Tensor[] = [];
      const collect = (value: unknown): void => {
        if (value instanceof Tensor) leaves.push(value);
        else if (value !== null && typeof value === 'object') for (const each of Object.values(value)) collect(each);
      };
      collect(inputs);
      collect(kwargs);
      const names = program
        .signature()
        .inputs.filter(({ constant, shape }) => constant === undefined && shape.length > 0);
      expect(names).toHaveLength(leaves.length);
      const { body, headers } = binaryBody(
        leaves.map((leaf, i) => ({
          name: (names[i] as { name: string }).name,
          datatype: infoOf(leaf.dtype).openInference!,
          shape: leaf.shape,
          bytes: bytesOf(leaf),
        })),
        { parameters: { binary_data_output: true } },
      );
      const { status, json, bytes } = await client.post('/v2/models/program/infer', body, { headers });
      expect([status, json.error]).toEqual([200, undefined]);
      const expected: Buffer[] = [];
      const results = (value: unknown): void => {
        if (value instanceof Tensor) expected.push(bytesOf(value));
        else if (Array.isArray(value)) for (const each of [...value]) results(each);
        else if (value !== null && typeof value === 'object') for (const each of Object.values(value)) results(each);
        else if (typeof value === 'number') expected.push(bytesOf(Tensor.from([value], { dtype: 'float64' })));
      };
      results(await program.forward(inputs, { kwargs }));
      expect(Buffer.compare(bytes, Buffer.concat(expected))).toBe(0);
      const declared = (await client.get('/v2/models/program')).json.outputs.map((each: { name: string }) => each.name);
      expect(json.outputs.map((each: { name: string }) => each.name)).toEqual(declared);
      program.dispose();
    },
  );
});

describe('createServer', () => {
  test.each([
    ['no options', undefined, /models/],
    ['no models', { models: {} }, /at least one model/],
    ['a name that no address holds', { models: { 'a/b': 'x.pt' } }, /name of a model/],
    ['an unknown option', { models: { a: 'x.pt' }, prot: 1 }, /'prot'/],
    ['an unknown option of a model', { models: { a: { source: 'x.pt', thread: 1 } } }, /'thread'/],
    ['versions that are the same', { models: { a: ['x.pt', 'y.pt'] } }, /versions of model 'a' that differ/],
    ['a limit that is none', { models: { a: 'x.pt' }, timeLimit: 0 }, /timeLimit/],
  ])('%s is refused', async (_, options, message) => {
    await expect(createServer(options as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  test('a model that can not be loaded is the error of its load', async () => {
    await expect(createServer({ models: { a: path('broken_zip.pt') } })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_FILE',
    });
  });

  test('models are loaded as untrusted ones, unless the options say otherwise', async () => {
    const writes = scriptFile(
      'writes',
      'def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  torch.save(x, "/nonexistent/file")\n  return x\n',
    );
    await expect(createServer({ models: { writes } })).rejects.toMatchObject({ code: 'ERR_UNTRUSTED' });
    const client = await serve({ writes: { source: writes, untrusted: false } });
    expect((await client.get('/v2/models/writes/ready')).status).toBe(200);
  });

  test("a model that is loaded is served as it is, and stays the caller's", async () => {
    const model = await ScriptModule.load(echo());
    const app = await createServer({ models: { echo: model } });
    const client = await listen(app);
    expect((await client.infer('echo', [x])).json.outputs[0].data).toEqual([1, 2, 3, 4]);
    await app.close();
    expect(model.disposed).toBe(false);
    model.dispose();
  });
});

describe('libtorchServer', () => {
  test('stands beside the routes, parsers and errors of an application', async () => {
    const app = Fastify();
    app.post('/own', async (request) => request.body);
    app.get('/fails', async () => {
      throw new Error('own');
    });
    await app.register(libtorchServer, { prefix: '/ml', models: { echo: echo() } });
    const client = await listen(app);
    while ((await client.get('/ml/v2/health/ready')).status !== 200)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect((await client.post('/ml/v2/models/echo/infer', { inputs: [x] })).json.outputs[0].data).toEqual([1, 2, 3, 4]);
    expect((await client.post('/own', { a: 1 })).json).toEqual({ a: 1 });
    expect((await client.get('/fails')).json).toMatchObject({ message: 'own' });
    expect((await client.get('/v2')).json).toMatchObject({ statusCode: 404 });
    expect((await client.get('/ml/x')).json).toMatchObject({ code: 'ERR_NOT_FOUND' });
  });

  test('a model that can not be loaded leaves the application as it is, and the server not ready', async () => {
    const app = Fastify();
    await app.register(libtorchServer, { models: { broken: path('broken_zip.pt'), echo: echo() } });
    const client = await listen(app);
    while ((await client.get('/v2/models/echo/ready')).status !== 200)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect((await client.get('/v2/health/ready')).status).toBe(503);
    expect(await client.infer('broken', [x])).toMatchObject({ status: 503, json: { code: 'ERR_NOT_READY' } });
    const [broken] = (await client.post('/v2/repository/index', {})).json;
    expect(broken).toMatchObject({ state: 'UNAVAILABLE', reason: expect.stringContaining('Expected') });
  });
});
