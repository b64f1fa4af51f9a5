import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type CaptureOptions, getNumThreads, ScriptModule, setNumThreads, Tensor, type Value } from '../../lib/index';
import { bits, path, tensorsIn } from './model-fixtures';

// Weights that are computed beside the model, where a run leaves cores idle: the same bits as without, whatever the model
// writes into meanwhile, and the same errors. On a machine with one core nothing is computed beside.
const all = getNumThreads();
afterAll(() => setNumThreads(all));

const filled = (shape: number[], seed: number) =>
  Tensor.from(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i * 1.3 + seed)),
    { shape },
  );

/** Names of this process's threads; none where the system has no list of them. */
const threads = () => {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc/self/task').flatMap((id) => {
    try {
      return [readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim()];
    } catch {
      return []; // it has ended
    }
  });
};

/** Bits of an output and of all that was captured. */
const bitsOf = ({ output, attentions }: { output: Value; attentions: object[] }) => [
  bits(output),
  ...attentions.map((each) => {
    const { name, index, weights, keys, received, entropy } = each as { [key: string]: Tensor | string | number };
    const tensors = [weights, keys, received, entropy].filter((value) => value instanceof Tensor);
    return [name, index, ...tensors.map((tensor) => bits(tensor as Tensor))];
  }),
];

describe('a model of 6 attentions, 400 tokens', () => {
  const input = filled([2, 400, 16], 0);
  let model: ScriptModule<[Tensor], Tensor>;
  beforeAll(async () => {
    model = await ScriptModule.load(path('containers_script.pt'));
  });
  const capture = async (threads: number, options: CaptureOptions & { memoryLimit?: number }) => {
    setNumThreads(threads);
    return await model.captureAttention([input], options);
  };

  test.each<[string, CaptureOptions]>([
    ['all weights', {}],
    ['one layer', { layers: [1] }],
    ['the last layer, from the end', { layers: [-1] }],
    ['some rows', { heads: [1], queries: [1, 399, 5] }],
    ['the largest', { topK: 3 }],
    ['means', { averageHeads: true, statistics: ['received', 'entropy'] }],
    ['half', { dtype: 'float16' }],
    ['codes', { dtype: { type: 'uint8', scale: 'log' } }],
  ])('%s: the same as with all threads', async (_, options) => {
    const expected = bitsOf(await capture(Math.max(2, all), options));
    for (let i = 0; i < 10; i++) expect(bitsOf(await capture(1, options))).toEqual(expected);
  });

  test('there is a thread for it where a core is idle', async () => {
    await capture(1, {});
    const idle = availableParallelism() > 1 && !process.env.OMP_NUM_THREADS;
    if (process.platform === 'linux' && idle) expect(threads()).toContain('lta_companion');
  });

  test('several at once', async () => {
    const expected = bitsOf(await capture(1, {}));
    const results = await Promise.all(Array.from({ length: 8 }, () => model.captureAttention([input])));
    for (const each of results) expect(bitsOf(each)).toEqual(expected);
  });

  test('rows that a layer lacks, and too many bytes, are errors, and the next capture works', async () => {
    await expect(capture(1, { queries: [400] })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(capture(1, { maxBytes: 3_000_000 })).rejects.toMatchObject({ code: 'ERR_CAPTURE_TOO_LARGE' });
    await expect(capture(1, { memoryLimit: 4_000_000 })).rejects.toMatchObject({ code: 'ERR_MEMORY_LIMIT' });
    expect((await capture(1, {})).attentions).toHaveLength(6);
  });

  test('a capture that is cancelled meanwhile ends', async () => {
    for (const delay of [0, 1, 2, 3, 5, 8]) {
      setNumThreads(1);
      const controller = new AbortController();
      const run = model.captureAttention([input], { signal: controller.signal });
      setTimeout(() => controller.abort(), delay);
      const ended = await run.then(
        ({ attentions }) => attentions.length,
        ({ name }) => name,
      );
      expect([6, 'AbortError']).toContain(ended);
    }
    expect((await capture(1, {})).attentions).toHaveLength(6);
  });
});

describe('models that write into what their attention was computed from', () => {
  const folder = join(__dirname, '..', 'fixtures', 'inplace');
  const models = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as { name: string; forms: string[] }[];

  test.each(models.map(({ name, forms }) => [name, forms[0]]))('%s', async (name, form) => {
    const inputs = () => [0, 1, 2].map((seed) => filled([2, 2, 320, 4], seed));
    const run = async (threads: number) => {
      setNumThreads(threads);
      const model = await ScriptModule.load(join(folder, `${name}_${form}.pt`));
      const given = inputs();
      try {
        const result = await model.captureAttention(given);
        return [...bitsOf(result), ...tensorsIn(given).map((tensor) => bits(tensor))];
      } catch (error) {
        return [(error as Error).message]; // of those that take no such inputs
      }
    };
    const expected = await run(Math.max(2, all));
    for (let i = 0; i < 5; i++) expect(await run(1)).toEqual(expected);
  });
});
