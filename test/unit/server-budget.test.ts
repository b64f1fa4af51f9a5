import { copyFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { ScriptModule } from '../../lib/index';
import { createServer } from '../../lib/server';
import { folder, logged, serve, until } from './server-fixtures';

const TEXT = join(__dirname, '..', 'fixtures', 'cli', 'text.pt');
const { size } = statSync(TEXT);
const ids = { name: 'input_ids', datatype: 'INT64', shape: [1, 4], data: [2, 4, 5, 3] };

function copyOf(name: string): string {
  const path = join(folder, `${name}.pt`);
  copyFileSync(TEXT, path);
  return path;
}

test('models beyond the budget are not loaded, and one that is replaced gives its part back', async () => {
  const path = copyOf('text');
  await expect(createServer({ models: { text: path }, memoryBudget: size - 1 })).rejects.toMatchObject({
    code: 'ERR_MEMORY_LIMIT',
    message: expect.stringContaining("'text'"),
  });
  await expect(createServer({ models: { a: path, b: TEXT }, memoryBudget: size + 1 })).rejects.toMatchObject({
    code: 'ERR_MEMORY_LIMIT',
    message: expect.stringContaining("'b'"),
  });
  // Room for the model and its file beside it: again and again only if each gives its part back.
  const [log, lines] = logged();
  const client = await serve({ text: path }, { memoryBudget: 2 * size, reloadInterval: 30, logger: log });
  for (let round = 1; round <= 4; ++round) {
    copyFileSync(TEXT, `${path}.new`);
    renameSync(`${path}.new`, path);
    await until(async () => lines().filter((line) => line.includes('loaded again')).length === round);
  }
  expect((await client.get('/v2/models/text/ready')).status).toBe(200);
});

/** Bytes that hold two copies of the model, but not two and the file of a third. */
async function roomForTwo(): Promise<number> {
  const model = await ScriptModule.load(TEXT);
  const bytes = Object.values(model.stateDict()).reduce((sum, tensor) => sum + tensor.toTypedArray().byteLength, 0);
  model.dispose();
  return size + Math.floor(1.5 * bytes);
}

/** The models that are loaded, by what the metrics say. */
async function loaded(url: string): Promise<string[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const bytes = [...text.matchAll(/^libtorch_model_bytes\{model="(\w+)",version="1"\} (\d+)/gm)];
  return bytes.filter(([, , count]) => Number(count) > 0).map(([, name]) => name as string);
}

test('models on demand are loaded by the first request, and the least recently used idle one makes room for the next', async () => {
  const models = Object.fromEntries(['a', 'b', 'c'].map((name) => [name, copyOf(name)]));
  const [log, lines] = logged();
  const client = await serve(models, { onDemand: true, memoryBudget: await roomForTwo(), logger: log });
  const ask = async (name: string) => {
    const { status, json } = await client.infer(name, [ids]);
    expect([status, json.error]).toEqual([200, undefined]);
    return json.outputs[0].data;
  };
  expect((await client.get('/v2/health/ready')).status).toBe(200);
  expect((await client.get('/v2/models/a/ready')).status).toBe(200);
  expect(await loaded(client.url)).toEqual([]);
  expect((await client.post('/v2/repository/index', {})).json[0]).toEqual({
    name: 'a',
    version: '1',
    state: 'READY',
    reason: 'loaded on demand',
  });
  const expected = await ask('a');
  await ask('b');
  expect(await loaded(client.url)).toEqual(['a', 'b']);
  await ask('a'); // now it is b that wasn't used for longest
  expect(await ask('c')).toEqual(expected);
  expect(await loaded(client.url)).toEqual(['a', 'c']);
  expect((await client.get('/v2/models/b')).json.inputs[0].name).toBe('input_ids');
  expect(await loaded(client.url)).toEqual(['b', 'c']);
  // Each of many at once is answered, by one load of each model at a time.
  const names = Array.from({ length: 30 }, (_, i) => 'bc'[i % 2] as string);
  for (const data of await Promise.all(names.map(ask))) expect(data).toEqual(expected);
  expect(lines().filter((line) => line.includes('loaded on demand')).length).toBe(4);
});

test('models in use make no room: requests are told to come back, and those loaded at the start stay', async () => {
  const models = {
    fixed: copyOf('fixed'),
    a: { source: copyOf('used'), onDemand: true },
    b: { source: copyOf('other'), onDemand: true },
  };
  const client = await serve(models, { memoryBudget: await roomForTwo() });
  const stream = await fetch(`${client.url}/v2/models/a/attention`, {
    method: 'POST',
    body: JSON.stringify({ inputs: [{ ...ids, shape: [1, 1536], data: new Array(1536).fill(4) }] }),
  });
  // Half read: the model waits for its reader, since no socket holds so much.
  const reader = (stream.body as ReadableStream<Uint8Array>).getReader();
  await reader.read();
  const refused = await client.infer('b', [ids]);
  expect([refused.status, refused.json.code, refused.headers.get('retry-after')]).toEqual([503, 'ERR_NOT_READY', '1']);
  expect(refused.json.error).toMatch(/in use/);
  expect((await client.get('/v2/models/b/ready')).status).toBe(200);
  while (!(await reader.read()).done);
  expect((await client.infer('b', [ids])).status).toBe(200);
  expect(await loaded(client.url)).toEqual(['fixed', 'b']);
});

test('one that can not be loaded on demand is 503 without saying where it is, others go on, and a file that is mended is tried again', async () => {
  const path = join(folder, 'broken.pt');
  writeFileSync(path, 'no model');
  const [log, lines] = logged();
  const client = await serve({ broken: path, text: TEXT }, { onDemand: true, reloadInterval: 30, logger: log });
  const { status, json } = await client.infer('broken', [ids]);
  expect([status, json.code]).toEqual([503, 'ERR_NOT_READY']);
  expect(json.error).not.toContain(folder);
  expect(lines().some((line) => line.includes('could not be loaded'))).toBe(true);
  expect((await client.get('/v2/models/broken/ready')).status).toBe(503);
  expect((await client.get('/v2/health/ready')).status).toBe(200);
  expect((await client.infer('text', [ids])).status).toBe(200);
  await wait(60);
  copyFileSync(TEXT, `${path}.new`);
  renameSync(`${path}.new`, path);
  await until(async () => (await client.infer('broken', [ids])).status === 200);
});
