import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BulkOptions, type BulkProgress, bulk, folderStore, type ResultStore } from '../../lib/bulk';
import type { FromWorker, ToWorker } from '../../lib/bulk/job';
import { ScriptModule, Tensor } from '../../lib/index';
import { TextTokenizer } from '../../lib/text/tokenizer';
import { hasRedis, Redis } from '../kills/redis.cjs';
import {
  doubling,
  expectEachOnce,
  folder,
  inputFiles,
  resultsOf,
  scriptFile,
  TEXT_MODEL,
  TOKENIZER,
} from './bulk-fixtures';

/** Inputs that end the process which runs them, as the system does where memory runs out. */
const mockPoison = new Set<number>();

jest.mock('node:child_process', () => {
  const actual = jest.requireActual<typeof import('node:child_process')>('node:child_process');
  const fork = (...args: Parameters<typeof actual.fork>) => {
    const child = actual.fork(...args);
    const send = child.send.bind(child) as (...given: unknown[]) => boolean;
    child.send = (message: ToWorker, ...rest: unknown[]) => {
      const isHeld = (index: number) =>
        message.type === 'run' && index >= message.chunk.first && index < message.chunk.first + message.chunk.count;
      if (message.type === 'run' && !message.careful && [...mockPoison].some(isHeld)) child.kill('SIGKILL');
      return send(message, ...rest);
    };
    child.on('message', (message: FromWorker) => {
      if (message.type === 'begin' && mockPoison.has(message.index)) child.kill('SIGKILL');
    });
    return child;
  };
  return { ...actual, fork };
});

// Both engines do the same: one machine by itself, and any number of them by a queue.
let redis: Redis | undefined;
beforeAll(async () => {
  if (hasRedis) redis = await Redis.start();
});
afterAll(() => redis?.end());
const engines: { name: string; options: () => Partial<BulkOptions> }[] = [
  { name: 'embedded', options: () => ({}) },
  ...(hasRedis ? [{ name: 'queue', options: () => ({ queue: (redis as Redis).url, stalledAfter: 1000 }) }] : []),
];
if (!hasRedis) test('queue', () => console.log('left out: there is no redis-server'));

/** The ids of a text, as a model takes them. */
async function tokens(text: string): Promise<Tensor> {
  const { ids } = (await TextTokenizer.load(TOKENIZER)).encode(text);
  return Tensor.from([ids.map(BigInt)]);
}

describe.each(engines)('$name', ({ name, options }) => {
  const place = (run: string): string => join(folder, `${name}-${run}`);
  const run = (given: Partial<BulkOptions> & Pick<BulkOptions, 'model' | 'out'>) =>
    bulk({ workers: 1, ...options(), ...given });

  test('texts: each result is that of the text by itself, whatever it is padded to', async () => {
    const text = join(folder, `${name}.txt`);
    const lines = ['the cat', 'the dog sat on the mat', '', 'a cat sat', 'cat '.repeat(20)];
    writeFileSync(text, lines.join('\r\n'));
    const out = place('texts');
    const progress: BulkProgress[] = [];
    const done = await run({
      model: TEXT_MODEL,
      text,
      tokenizer: TOKENIZER,
      buckets: [4, 16],
      out,
      chunkSize: 2,
      onProgress: (each) => progress.push(each),
    });
    expect(done).toMatchObject({ inputs: 5, written: 4, failed: 1 });
    expect(progress.at(-1)).toMatchObject({ inputs: 5, done: 5, failed: 1 });
    const results = await resultsOf(out);
    expectEachOnce(results, 5);
    expect(results.failed).toEqual([
      expect.objectContaining({
        index: 4,
        input: `${name}.txt:5`,
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(/16 tokens/),
      }),
    ]);
    expect([0, 1, 2, 3].map((i) => results.descriptions.get(i)?.length)).toEqual([4, 8, 2, 5]);
    const model = await ScriptModule.load(TEXT_MODEL);
    const { attentions, output } = await model.captureAttention([Tensor.from([[2n, 4n, 5n, 3n]])]);
    const alone = Array.from(attentions[1]?.weights.toTypedArray() ?? []);
    expect(results.tensors.get('0.attentions.1')).toEqual({ shape: [1, 3, 4, 4], data: alone });
    expect(results.tensors.get('0.output')?.data).toEqual(
      Array.from((output as Tensor).toTypedArray() as Float32Array),
    );
    expect(results.descriptions.get(0)?.attentions?.['1']?.name).toBe('layers.1');
    // Of a text that was padded, the rows and columns of its own tokens are the same; padding is masked out.
    const own = await model.captureAttention([await tokens('a cat sat')]);
    for (const { index, weights } of own.attentions) {
      const { shape, data } = results.tensors.get(`3.attentions.${index}`) as { shape: number[]; data: number[] };
      expect([shape, weights.shape]).toEqual([
        [1, 3, 16, 16],
        [1, 3, 5, 5],
      ]);
      const expected = weights.toTypedArray();
      for (let i = 0; i < 3 * 5 * 16; ++i) {
        const [head, row, key] = [Math.floor(i / 80), Math.floor(i / 16) % 5, i % 16];
        const value = key < 5 ? (expected[(head * 5 + row) * 5 + key] as number) : 0;
        expect(Math.abs((data[(head * 16 + row) * 16 + key] as number) - value)).toBeLessThan(1e-6);
      }
    }
    model.dispose();
  });

  test('files: bad ones are in failed.jsonl, and what ends its process each time; its neighbours are run again', async () => {
    const values = Array.from({ length: 30 }, (_, i) => (i === 3 ? 'no tensors' : i));
    const inputs = await inputFiles(`${name}-inputs`, values);
    const out = place('files');
    mockPoison.add(17);
    const progress: BulkProgress[] = [];
    const onProgress = (each: BulkProgress) => progress.push(each);
    const given = { model: doubling(), inputs, capture: false, out, chunkSize: 5 } as const;
    // The second is one too many, and what is done then is kept.
    await expect(run({ ...given, maxFailures: 1 })).rejects.toMatchObject({
      code: 'ERR_TOO_MANY_FAILURES',
      message: expect.stringMatching(/at most 1 .* but 2 have.*0003\.safetensors.*--max-failures/),
    });
    mockPoison.clear();
    expect((await resultsOf(out)).failed.map(({ index }) => index)).toEqual([3, 17]);
    await expect(run({ ...given, maxFailures: 0, resume: true })).rejects.toMatchObject({
      code: 'ERR_TOO_MANY_FAILURES',
    });
    await run({ ...given, maxFailures: 2, resume: true, onProgress });
    expect(progress.at(-1)).toMatchObject({ done: 30, failed: 2 });
    const results = await resultsOf(out);
    expectEachOnce(results, 30);
    expect(results.failed).toEqual([
      expect.objectContaining({ index: 3, code: 'ERR_INVALID_ARGUMENT' }),
      expect.objectContaining({ index: 17, code: 'ERR_WORKER_ENDED', message: expect.stringMatching(/SIGKILL/) }),
    ]);
    expect(results.tensors.get('29.output')).toEqual({ shape: [1], data: [58] });
  }, 120_000); // eight starts of processes that load libtorch

  test('a full disk ends the run with its code, and it goes on when there is room', async () => {
    const inputs = await inputFiles(
      `${name}-full-inputs`,
      Array.from({ length: 12 }, (_, i) => i),
    );
    const out = place('full');
    const store = folderStore(out);
    let puts = 0;
    const full: ResultStore = {
      name: out,
      scratch: store.scratch,
      get: (each) => store.get(each),
      list: (prefix) => store.list(prefix),
      remove: (each) => store.remove(each),
      put: async (each, content) => {
        if (each.startsWith('part-') && ++puts > 2) {
          const { storeError } =
            jest.requireActual<typeof import('../../lib/bulk/result-store')>('../../lib/bulk/result-store');
          throw storeError(
            out,
            `writing ${each}`,
            Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }),
          );
        }
        await store.put(each, content);
      },
    };
    const given = { model: doubling(), inputs, capture: false, chunkSize: 2 } as const;
    await expect(run({ ...given, out: full })).rejects.toMatchObject({
      code: 'ERR_NO_SPACE',
      message: expect.stringMatching(/--resume/),
    });
    await expect(run({ ...given, out })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(run({ ...given, out, chunkSize: 3, resume: true })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/chunkSize/),
    });
    const progress: BulkProgress[] = [];
    const done = await run({ ...given, out, resume: true, onProgress: (each) => progress.push(each) });
    expect(done).toMatchObject({ inputs: 12, written: 12, failed: 0 });
    const results = await resultsOf(out);
    expectEachOnce(results, 12);
    expect(results.tensors.get('11.output')?.data).toEqual([22]);
  });
});

describe('batches', () => {
  const run = (given: Partial<BulkOptions> & Pick<BulkOptions, 'model' | 'out'>) => bulk({ workers: 1, ...given });

  test('texts of one bucket run together, and each result is that of the text by itself but for rounding', async () => {
    const text = join(folder, 'batches.txt');
    const words = ['the', 'cat', 'sat', 'on', 'mat', 'dog'];
    const lines = Array.from({ length: 23 }, (_, i) =>
      Array.from({ length: 1 + (i % 9) }, (_, j) => words[(i + j) % 6]).join(' '),
    );
    lines[7] = 'cat '.repeat(30);
    writeFileSync(text, lines.join('\n'));
    const given = { model: TEXT_MODEL, text, tokenizer: TOKENIZER, buckets: [4, 8, 16], capture: { logSumExp: true } };
    const [out, single] = [join(folder, 'batches'), join(folder, 'single')];
    const { batches, failed } = await run({ ...given, out, batchSize: 4 });
    await run({ ...given, out: single });
    expect(failed).toBe(1);
    expect(batches).toMatchObject({ compared: 6 });
    expect(batches?.inputs).toBeGreaterThan(18);
    expect(batches?.difference).toBeLessThan(1e-5);
    expect(batches?.refused).toBeUndefined();
    const [together, alone] = [await resultsOf(out), await resultsOf(single)];
    expectEachOnce(together, 23);
    expect([...together.tensors.keys()]).toEqual([...alone.tensors.keys()]);
    for (const [name, { shape, data }] of alone.tensors) {
      const other = together.tensors.get(name);
      expect(other?.shape).toEqual(shape);
      expect(Math.max(...data.map((value, i) => Math.abs(value - (other?.data[i] as number))))).toBeLessThan(1e-5);
    }
    const { batch, length, attentions } = together.descriptions.get(0) ?? {};
    expect({ batch, length, shape: attentions?.['0']?.shape }).toEqual({ batch: 4, length: 3, shape: [1, 3, 4, 4] });
    // The same but for what says that others were computed with it.
    for (const [index, { batch: _, ...description }] of together.descriptions)
      expect(description).toEqual(alone.descriptions.get(index));
  });

  test('a model that mixes rows runs its inputs alone, and says so; an input that fails takes no other with it', async () => {
    const values = Array.from({ length: 12 }, (_, i) => i);
    const mixing = scriptFile('mixing', '  return torch.sub(x, torch.mean(x))\n');
    const mixed = await run({
      model: mixing,
      inputs: await inputFiles('mixed', values),
      capture: false,
      out: join(folder, 'mixed-out'),
      batchSize: 4,
    });
    expect(mixed.batches).toMatchObject({ inputs: 0, refused: expect.stringMatching(/output.*differs/) });
    const { tensors } = await resultsOf(join(folder, 'mixed-out'));
    for (const i of values) expect(tensors.get(`${i}.output`)).toEqual({ shape: [1], data: [0] });
    const picky = scriptFile(
      'picky',
      "  if bool(torch.any(torch.eq(x, 5))):\n    ops.prim.RaiseException('five')\n  return torch.mul(x, 2)\n",
    );
    const picked = await run({
      model: picky,
      inputs: await inputFiles('picked', values),
      capture: false,
      out: join(folder, 'picked-out'),
      batchSize: 4,
    });
    expect(picked).toMatchObject({
      written: 11,
      failed: 1,
      batches: { inputs: 8, compared: 2, equal: 2, difference: 0 },
    });
    const results = await resultsOf(join(folder, 'picked-out'));
    expectEachOnce(results, 12);
    expect(results.failed[0]).toMatchObject({ index: 5, message: expect.stringMatching(/five/) });
    expect(results.tensors.get('11.output')).toEqual({ shape: [1], data: [22] });
    expect(results.tensors.get('4.output')).toEqual({ shape: [1], data: [8] });
  });
});
