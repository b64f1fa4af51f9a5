import { setTimeout as wait } from 'node:timers/promises';
import { type Attention, ScriptModule, Tensor } from '../../lib/index';
import { programPath } from './exported-fixtures';
import { path } from './model-fixtures';
import { bytesOf, type Client, scriptFile, serve } from './server-fixtures';

const ids = { name: 'input_ids', datatype: 'INT64', shape: [1, 4], data: [2, 4, 5, 3] };
const TEXT = path('../cli/text.pt');

interface Frame {
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any form
  json: any;
  bytes: Buffer;
}

/** The frames of a stream, by the lengths that stand in it. */
function framesOf(stream: Buffer): Frame[] {
  const frames: Frame[] = [];
  let at = 0;
  while (at < stream.length) {
    const length = stream.readUInt32LE(at);
    const json = JSON.parse(stream.subarray(at + 4, at + 4 + length).toString());
    at += 4 + length;
    const sizes: number[] = (json.outputs ?? []).map(
      (each: { parameters: { binary_data_size: number } }) => each.parameters.binary_data_size,
    );
    const size = sizes.reduce((sum, each) => sum + each, 0);
    frames.push({ json, bytes: stream.subarray(at, at + size) });
    at += size;
  }
  return frames;
}

async function streamOf(client: Client, model: string, body: object): Promise<Frame[]> {
  const response = await fetch(`${client.url}/v2/models/${model}/attention`, {
    method: 'POST',
    body: JSON.stringify(body),
  });
  expect([response.status, response.headers.get('content-type')]).toEqual([
    200,
    'application/vnd.libtorch-attention.frames',
  ]);
  return framesOf(Buffer.from(await response.arrayBuffer()));
}

async function captured(options: object = {}): Promise<{ output: Tensor; attentions: Attention[] }> {
  const model = await ScriptModule.load(TEXT);
  try {
    return (await model.captureAttention([Tensor.from([[2n, 4n, 5n, 3n]])], options)) as {
      output: Tensor;
      attentions: Attention[];
    };
  } finally {
    model.dispose();
  }
}

test('an inference returns the attention that its parameter asks for, bit by bit', async () => {
  const client = await serve({ text: TEXT });
  for (const attention of [
    true,
    {},
    { layers: [-1], heads: [0], topK: 2 },
    { averageHeads: true, queries: { start: 1, end: 3 } },
  ]) {
    const { status, json, bytes } = await client.infer('text', [ids], {
      parameters: { attention, binary_data_output: true },
    });
    const { output, attentions } = await captured(attention === true ? {} : (attention as object));
    expect(status).toBe(200);
    expect(attentions.length).toBeGreaterThan(0);
    const tensors = [output, ...attentions.flatMap(({ weights, keys }) => (keys ? [weights, keys] : [weights]))];
    expect(Buffer.compare(bytes, Buffer.concat(tensors.map(bytesOf)))).toBe(0);
    const [, first] = json.outputs;
    const { index, name, operator, heads, queries, shape, kind } = attentions[0] as Attention;
    expect(first).toMatchObject({
      name: `attention.${index}`,
      datatype: 'FP32',
      shape: [...(attentions[0] as Attention).weights.shape],
      parameters: { name, operator, heads, queries, shape, kind },
    });
  }
  const statistics = await client.infer('text', [ids], {
    parameters: { attention: { statistics: ['entropy'], weights: false, layers: [0] } },
  });
  expect(statistics.json.outputs.map((each: { name: string }) => each.name)).toEqual(['output', 'attention.0.entropy']);
  expect((await client.infer('text', [ids])).json.outputs).toHaveLength(1);
});

test('what can not be captured is refused, and says why', async () => {
  const plain = scriptFile('plain', 'def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  return x\n');
  const client = await serve({ text: TEXT, plain }, { maxAttentionBytes: 1000 });
  const ask = async (attention: unknown, model = 'text', inputs = [ids]) => {
    const { status, json } = await client.infer(model, inputs, { parameters: { attention } });
    return [status, json.code];
  };
  expect(await ask({ layers: ['nowhere'] })).toEqual([400, 'ERR_UNKNOWN_MODULE']);
  expect(await ask({ layers: ['/(a+)+$/'] })).toEqual([400, 'ERR_UNKNOWN_MODULE']);
  expect(await ask({ heads: [-1] })).toEqual([400, 'ERR_INVALID_ARGUMENT']);
  expect(await ask({ onAttention: 1 })).toEqual([400, 'ERR_INVALID_ARGUMENT']);
  expect(await ask({ maxBytes: -1 })).toEqual([400, 'ERR_INVALID_ARGUMENT']);
  expect(await ask({ device: 'same' })).toEqual([400, 'ERR_INVALID_ARGUMENT']);
  expect(await ask({ maxBytes: 10 })).toEqual([413, 'ERR_CAPTURE_TOO_LARGE']);
  expect(await ask('all')).toEqual([400, 'ERR_INVALID_ARGUMENT']);
  expect(await ask(true, 'plain', [{ ...ids, name: 'x' }])).toEqual([400, 'ERR_NO_ATTENTION']);
  const long = { ...ids, shape: [1, 16], data: Array.from({ length: 16 }, () => 4) };
  for (const attention of [true, { maxBytes: 1e9 }])
    expect(await ask(attention, 'text', [long])).toEqual([413, 'ERR_CAPTURE_TOO_LARGE']);
});

test('a stream has a frame for each attention, and one with the outputs at the end', async () => {
  const client = await serve({ text: TEXT, bert: programPath('bert_dynamic') });
  const frames = await streamOf(client, 'text', { id: 'a', inputs: [ids], parameters: { attention: { heads: [1] } } });
  const { output, attentions } = await captured({ heads: [1] });
  expect(frames).toHaveLength(attentions.length + 1);
  for (const [i, { weights, index, name }] of attentions.entries()) {
    const { json, bytes } = frames[i] as Frame;
    expect(json).toMatchObject({
      id: 'a',
      model_name: 'text',
      outputs: [{ name: `attention.${index}`, parameters: { name } }],
    });
    expect(Buffer.compare(bytes, bytesOf(weights))).toBe(0);
  }
  const last = frames.at(-1) as Frame;
  expect(last.json.parameters).toEqual({ final: true, unseen: [] });
  expect(Buffer.compare(last.bytes, bytesOf(output))).toBe(0);
  const { inputs } = (await client.get('/v2/models/bert')).json as {
    inputs: { name: string; datatype: string; shape: number[] }[];
  };
  const given = inputs.map(({ name, datatype }) => ({
    name,
    datatype,
    shape: [2, 5],
    data: new Array<number>(10).fill(1),
  }));
  expect((await streamOf(client, 'bert', { inputs: given })).length).toBeGreaterThan(1);
});

test('an error before the first attention has its status, one behind it a frame', async () => {
  const client = await serve({ text: TEXT, late: path('methods.pt') });
  const refused = await client.post('/v2/models/text/attention', {
    inputs: [ids],
    parameters: { attention: { layers: ['x'] } },
  });
  expect([refused.status, refused.json.code]).toEqual([400, 'ERR_UNKNOWN_MODULE']);
  const wanted = await streamOf(client, 'text', { inputs: [ids], outputs: [{ name: 'nothing' }] });
  expect(wanted.at(-1)?.json).toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    error: expect.stringContaining("'nothing'"),
  });
});

test('a page is sent where HTML is asked for, with tokens as they are', async () => {
  const client = await serve({ text: TEXT });
  const tokens = ['[CLS]', '</script><b>', 'c', '[SEP]'];
  const response = await fetch(`${client.url}/v2/models/text/attention`, {
    method: 'POST',
    headers: { Accept: 'text/html,application/xhtml+xml' },
    body: JSON.stringify({ inputs: [ids], parameters: { tokens, title: 'A <title>' } }),
  });
  const page = await response.text();
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
  expect(page).toContain('<!doctype html>');
  expect(page).toContain('A &lt;title&gt;');
  expect(page).not.toContain('</script><b>');
  const wrong = await client.post(
    '/v2/models/text/attention',
    { inputs: [ids], parameters: { tokens: 'abc' } },
    { headers: { Accept: 'text/html' } },
  );
  expect(wrong.status).toBe(400);
});

test('the model waits for who reads slowly, and stops for who leaves', async () => {
  const model = await ScriptModule.load(path('looped_matmul.pt'));
  const calls = model.registerForwardPreHook('attention', () => undefined);
  const client = await serve({ looped: model }, { concurrency: 1 });
  const [width, length, times] = [16, 500, 100];
  const input = (rows: number) => ({
    name: 'x',
    datatype: 'FP32',
    shape: [1, rows, width],
    data: Array.from({ length: rows * width }, (_, i) => Math.sin(i)),
  });
  const count = { name: 'times', datatype: 'INT64', shape: [1], data: [times] };
  const response = await fetch(`${client.url}/v2/models/looped/attention`, {
    method: 'POST',
    body: JSON.stringify({ inputs: [input(length), count] }),
  });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  expect((await reader.read()).value?.length).toBeGreaterThan(0);
  // A hundred attentions of two megabytes: more than sockets and streams hold.
  let before = -1;
  while (before !== calls.calls) {
    before = calls.calls;
    await wait(500);
  }
  expect(before).toBeGreaterThan(0);
  expect(before).toBeLessThan(times / 2);
  await reader.cancel();
  // The model runs one at a time: this one has its turn when that has ended.
  expect((await client.infer('looped', [input(2), count])).status).toBe(200);
  await model.settled();
  expect(calls.calls).toBeLessThan(before + times + 5);
  model.dispose();
});
