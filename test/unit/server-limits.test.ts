import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { ScriptModule } from '../../lib/index';
import { createServer } from '../../lib/server';
import { binaryBody, counting, echo, listen, scriptFile, serve, slow, until } from './server-fixtures';

const x = (...data: number[]) => ({ name: 'x', datatype: 'FP32', shape: [data.length], data });
const times = (count: number) => ({ name: 'times', datatype: 'INT64', shape: [1], data: [count] });

test('a full queue is answered 429 with a time to come back, and what waits is served', async () => {
  const client = await serve({ counting: counting() }, { maxQueue: 2, concurrency: 1 });
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, i) => client.infer('counting', [x(i), times(5_000)], { id: String(i) })),
  );
  const refused = answers.filter(({ status }) => status === 429);
  const served = answers.filter(({ status }) => status === 200);
  expect(served.length).toBeGreaterThanOrEqual(3);
  expect(refused.length).toBeGreaterThan(0);
  expect(served.length + refused.length).toBe(10);
  for (const { json, headers } of refused) {
    expect(json.code).toBe('ERR_OVERLOADED');
    expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  }
  for (const { json } of served) expect(json.outputs[0].data).toEqual([Number(json.id) + 5_000]);
  expect((await client.infer('counting', [x(1), times(1)])).json.outputs[0].data).toEqual([2]);
});

test('a request ends with its time, waiting included, and leaves the model to others', async () => {
  const client = await serve({ slow: slow() }, { concurrency: 1, timeLimit: 300 });
  const started = Date.now();
  const answers = await Promise.all([client.infer('slow', [x(1)]), client.infer('slow', [x(1)])]);
  for (const { status, json } of answers) expect([status, json.code]).toEqual([504, 'ERR_TIME_LIMIT']);
  expect(Date.now() - started).toBeLessThan(5000);
  // Within its time once the machine has it.
  await until(async () => (await client.infer('slow', [x(0)])).status === 200);
});

test('a request may ask for less time than the server allows, in microseconds', async () => {
  const client = await serve({ slow: slow() });
  const { status, json } = await client.infer('slow', [x(1)], { parameters: { timeout: 200_000 } });
  expect([status, json.error]).toEqual([504, expect.stringContaining('200 ms')]);
  expect((await client.infer('slow', [x(0)], { parameters: { timeout: -1 } })).status).toBe(400);
});

test('a limit of centuries is none of milliseconds', async () => {
  const client = await serve({ slow: slow() }, { timeLimit: 10 ** 13 });
  expect((await client.infer('slow', [x(0)])).status).toBe(200);
});

test('who leaves stops the run, and what waits for its turn', async () => {
  const model = await ScriptModule.load(slow());
  const client = await serve({ slow: model }, { concurrency: 1 });
  const leaving = new AbortController();
  const left = Array.from({ length: 3 }, () => client.infer('slow', [x(1)], {}, { signal: leaving.signal }));
  await wait(200);
  leaving.abort();
  for (const each of await Promise.allSettled(left)) expect(each.status).toBe('rejected');
  // One that goes on would hold the model, which runs one at a time, for good.
  expect((await client.infer('slow', [x(0)])).status).toBe(200);
  await model.settled();
  model.dispose();
});

test('a body beyond the limit is 413, compressed or not, and the server goes on', async () => {
  const client = await serve({ echo: echo() }, { bodyLimit: 10_000 });
  const body = Buffer.from(JSON.stringify({ inputs: [x(...new Array<number>(5_000).fill(1))] }));
  expect(await client.post('/v2/models/echo/infer', body)).toMatchObject({
    status: 413,
    json: { code: 'ERR_TOO_LARGE' },
  });
  const packed = gzipSync(body);
  expect(packed.length).toBeLessThan(10_000);
  const headers = { 'Content-Encoding': 'gzip' };
  expect(await client.post('/v2/models/echo/infer', packed, { headers })).toMatchObject({ status: 413 });
  for (const broken of [body, Buffer.from('no gzip')]) {
    expect([400, 413]).toContain((await client.post('/v2/models/echo/infer', broken, { headers })).status);
  }
  expect(await client.post('/v2/models/echo/infer', packed, { headers: { 'Content-Encoding': 'br' } })).toMatchObject({
    status: 400,
    json: { error: expect.stringContaining('gzip or deflate') },
  });
  expect((await client.infer('echo', [x(1)])).status).toBe(200);
});

test('what a model can not compute is 422, and says why', async () => {
  const client = await serve({
    product: scriptFile(
      'product',
      'def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  return torch.matmul(x, x)\n',
    ),
  });
  const { status, json } = await client.infer('product', [{ ...x(1, 2), shape: [1, 2] }]);
  expect([status, json]).toEqual([422, { code: 'ERR_MODEL_RUN', error: expect.stringContaining('shapes') }]);
});

test('inputs are what the signature says, as far as it does', async () => {
  const client = await serve({ counting: counting() });
  const { status, json } = await client.infer('counting', [{ ...x(1), datatype: 'BOOL', data: [true] }, times(1)]);
  expect(status).toBe(200); // booleans add up to numbers
  expect(json.outputs[0].datatype).toBe('INT64');
  const { status: failed } = await client.infer('counting', [x(1), { ...times(1), shape: [2], data: [1, 2] }]);
  expect(failed).toBe(400);
});

test('300 requests, a third of which leave, get their own answers and no other', async () => {
  const client = await serve({ counting: counting() }, { concurrency: 2, maxQueue: 400 });
  const answers = await Promise.allSettled(
    Array.from({ length: 300 }, async (_, i) => {
      const leaving = new AbortController();
      if (i % 3 === 0) setTimeout(() => leaving.abort(), i % 50);
      const { json } = await client.infer(
        'counting',
        [x(i, -i), times(300)],
        { id: `${i}` },
        { signal: leaving.signal },
      );
      expect(json).toMatchObject({ id: `${i}`, outputs: [{ data: [i + 300, -i + 300] }] });
    }),
  );
  const failed = answers.flatMap((each, i) => (each.status === 'rejected' && i % 3 !== 0 ? [each.reason] : []));
  expect(failed).toEqual([]);
});

test('connections that nothing came over, and half a request, do not keep a server from closing', async () => {
  const app = await createServer({ models: { echo: echo() } });
  const client = await listen(app);
  const { port } = new URL(client.url);
  const silent = connect(Number(port), '127.0.0.1');
  const half = connect(Number(port), '127.0.0.1', () =>
    half.write('POST /v2/models/echo/infer HTTP/1.1\r\nHost: local'),
  );
  for (const socket of [silent, half]) socket.on('error', () => {});
  await client.infer('echo', [x(1)]);
  const started = Date.now();
  await app.close();
  expect(Date.now() - started).toBeLessThan(5000);
});

test('one that nobody could run is refused before its body has come', async () => {
  const client = await serve({ slow: slow() }, { concurrency: 1, maxQueue: 0, timeLimit: 2000 });
  const running = client.infer('slow', [x(1)]);
  await wait(200);
  const { port } = new URL(client.url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.write('POST /v2/models/slow/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 429 /);
  expect((await running).status).toBe(504);
  await wait(50);
  expect((await client.infer('slow', [x(0)])).status).toBe(200);
});

test('thousands of inputs are no request', async () => {
  const client = await serve({ echo: echo() });
  const inputs = Array.from({ length: 5_000 }, (_, i) => ({ name: `x.${i}`, datatype: 'FP32', shape: [0], data: [] }));
  const started = Date.now();
  expect((await client.infer('echo', inputs)).status).toBe(400);
  expect(Date.now() - started).toBeLessThan(3000);
});

test('a body that does not come ends with its time, and gives its place to others', async () => {
  const client = await serve({ echo: echo() }, { concurrency: 1, maxQueue: 0, timeLimit: 1500 });
  const { port } = new URL(client.url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.write('POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{');
  await wait(100);
  expect((await client.infer('echo', [x(1)])).status).toBe(429);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 504 .*"code":"ERR_TIME_LIMIT"/s);
  await once(socket, 'close');
  expect((await client.infer('echo', [x(1)])).status).toBe(200);
});

test('who does not read an answer loses it, and the place', async () => {
  // Long enough for the body to arrive and the model to run where the machine has much else to do; the answer is longer
  // than what the system keeps of it.
  const client = await serve({ echo: echo() }, { concurrency: 1, maxQueue: 0, timeLimit: 2000 });
  const { port } = new URL(client.url);
  const { body, headers } = binaryBody(
    [{ name: 'x', datatype: 'UINT8', shape: [2 ** 24], bytes: new Uint8Array(2 ** 24) }],
    { parameters: { binary_data_output: true } },
  );
  const socket = connect(Number(port), '127.0.0.1');
  const lines = Object.entries({ ...headers, Host: 'localhost', 'Content-Length': body.length });
  socket.write(
    `POST /v2/models/echo/infer HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
  );
  await wait(100);
  socket.write(body);
  socket.pause();
  socket.on('error', () => {}); // it is reset
  const freed = async () => (await client.infer('echo', [x(1)])).status === 200;
  await until(async () => !(await freed()));
  await until(freed);
  socket.destroy();
});

test('a body that is made to take all memory is refused, and takes nobody with it', async () => {
  const client = await serve({ echo: echo() }, { bodyLimit: 2 ** 23 });
  const bodyOf = (data: string) =>
    Buffer.from(`{"inputs":[{"name":"x","datatype":"FP32","shape":[131072],"data":[${data}]}]}`);
  const bomb = client.post('/v2/models/echo/infer', bodyOf(`${'{},'.repeat(2.7e6)}0`));
  expect((await client.infer('echo', [x(1)])).status).toBe(200);
  const { status: refused } = await bomb;
  expect([400, 413]).toContain(refused); // with or without all of the memory that there is for it
  const broken = client.post('/v2/models/echo/infer', bodyOf('0,'.repeat(2 ** 17)));
  const right = client.post('/v2/models/echo/infer', bodyOf(`${'0,'.repeat(2 ** 17 - 1)}0.5`));
  expect(await broken).toMatchObject({
    status: 400,
    json: { code: 'ERR_INVALID_ARGUMENT', error: expect.stringMatching(/JSON/) },
  });
  const { status, json } = await right;
  expect([status, json.outputs[0].data.length, json.outputs[0].data.at(-1)]).toEqual([200, 2 ** 17, 0.5]);
});
