import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bulk, bulkStatus, folderStore, type ResultStore, s3Store } from '../../lib/bulk';
import { storeError } from '../../lib/bulk/result-store';
import { parseSafetensors } from '../../lib/formats/safetensors';
import { doubling, folder, inputFiles } from './bulk-fixtures';
import { S3Server } from './s3-server';

let s3: S3Server;
const before: Record<string, string | undefined> = {};
beforeAll(async () => {
  s3 = await S3Server.start();
  const quiet = { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' };
  for (const [name, value] of Object.entries({ ...s3.environment, ...quiet })) {
    before[name] = process.env[name];
    process.env[name] = value;
  }
});
afterAll(async () => {
  await s3.end();
  for (const [name, value] of Object.entries(before)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

const stores: [string, () => ResultStore][] = [
  ['a folder', () => folderStore(join(folder, 'store'))],
  ['S3', () => s3Store('s3://bucket/some/run/')],
];

describe.each(stores)('%s', (_, open) => {
  test('keeps bytes and files by their names, over what was there, and lists those of a prefix', async () => {
    const store = open();
    expect(await store.get('manifest.json')).toBeUndefined();
    expect(await store.list('chunks/')).toEqual([]);
    for (const [name, text] of Object.entries({ 'manifest.json': '{}', 'chunks/2.json': 'two', 'chunks/1.json': '1' }))
      await store.put(name, Buffer.from(text));
    await store.put('manifest.json', Buffer.from('{"a":1}'));
    mkdirSync(store.scratch, { recursive: true });
    const part = join(store.scratch, 'some.part');
    writeFileSync(part, 'results');
    await store.put('part-1.safetensors', { path: part });
    await store.put('part-2.safetensors', Buffer.from('more'));
    await store.put('part-3.safetensors', Buffer.from('gone'));
    await store.remove('part-3.safetensors');
    await store.remove('part-4.safetensors');
    const text = async (name: string) => Buffer.from((await store.get(name)) ?? '').toString();
    expect(await text('manifest.json')).toBe('{"a":1}');
    expect(await text('part-1.safetensors')).toBe('results');
    const listed = async (prefix: string) =>
      (await store.list(prefix)).map(({ name, size }) => `${name} ${size}`).sort();
    expect(await listed('chunks/')).toEqual(['chunks/1.json 1', 'chunks/2.json 3']);
    expect(await listed('part-')).toEqual(['part-1.safetensors 7', 'part-2.safetensors 4']);
    expect(readdirSync(store.scratch)).toEqual([]);
  });
});

test('what a folder can not take is an error with its code, and leaves nothing', async () => {
  writeFileSync(join(folder, 'file'), '');
  const store = folderStore(join(folder, 'file'));
  await expect(store.put('a', Buffer.from('a'))).rejects.toMatchObject({ code: 'ERR_RESULT_STORE' });
  for (const [code, expected] of [
    ['ENOSPC', 'ERR_NO_SPACE'],
    ['EDQUOT', 'ERR_NO_SPACE'],
    ['EACCES', 'ERR_RESULT_STORE'],
  ]) {
    expect(storeError('results', 'writing a', Object.assign(new Error('no'), { code }))).toMatchObject({
      code: expected,
    });
  }
});

test('a bucket that answers that it is busy is asked again', async () => {
  const store = s3Store('s3://bucket/busy');
  s3.failures = 1;
  await store.put('a', Buffer.from('a'));
  expect(s3.objects.get('busy/a')?.toString()).toBe('a');
});

test('a run whose results are in a bucket', async () => {
  const inputs = await inputFiles('s3-inputs', [1, 2, 'no tensors', 4, 5]);
  const out = 's3://bucket/runs/1';
  const done = await bulk({ model: doubling(), inputs, capture: false, out, chunkSize: 2, workers: 1 });
  expect(done).toMatchObject({ inputs: 5, written: 4, failed: 1 });
  expect(await bulkStatus({ out })).toMatchObject({ state: 'done', written: 4, failed: 1, chunks: 3, chunksDone: 3 });
  const names = [...s3.objects.keys()].filter((name) => name.startsWith('runs/1/')).sort();
  expect(names.map((name) => name.slice('runs/1/'.length))).toEqual([
    ...[0, 1, 2].map((chunk) => `chunks/0000000${chunk}.json`),
    'failed.jsonl',
    'manifest.json',
    ...[0, 1, 2].map((chunk) => `part-0000000${chunk}.safetensors`),
    'plan.json',
  ]);
  const { entries } = await parseSafetensors(s3.objects.get('runs/1/part-00000002.safetensors') as Buffer);
  expect(entries.map(({ name, data }) => [name, ...(data as Float32Array)])).toEqual([['4.output', 10]]);
  await expect(bulk({ model: doubling(), inputs, out, workers: 1 })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
  });
});

test('stores that are none are refused', async () => {
  const given = { model: doubling(), inputs: 'x' };
  for (const out of ['', 's3://', 5, {}, { put() {} }]) {
    await expect(bulk({ ...given, out: out as string })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  }
});
