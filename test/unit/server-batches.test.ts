import { programPath } from './exported-fixtures';
import { type Answer, scriptFile, serve } from './server-fixtures';

const x = (...rows: number[]) => ({ name: 'x', datatype: 'FP32', shape: [rows.length, 1], data: rows });

/** A model that says how many rows it was given, beside what it makes of each. */
const counted = () =>
  scriptFile(
    'counted',
    'def forward(self: __torch__.M, x: Tensor) -> Tuple[Tensor, Tensor]:\n  return (torch.mul(x, 2), torch.full_like(x, 1))\n',
  );
const batched = (source: string, maxBatch = 8) => ({ source, maxBatch, maxDelay: 50, untrusted: false });

test('requests that come together are computed together, and each gets its own rows', async () => {
  const client = await serve({ counted: batched(counted()) }, { concurrency: 1 });
  const ask = async (i: number) => await client.infer('counted', [x(i, -i)], { id: String(i) });
  for (const round of [0, 1]) {
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => ask(i + 10 * round)));
    for (const [i, { json }] of answers.entries()) {
      const value = i + 10 * round;
      expect(json).toMatchObject({
        id: String(value),
        outputs: [{ shape: [2, 1], data: [2 * value, -2 * value || 0] }, {}],
      });
    }
    const batches = answers.map(({ json }) => json.parameters?.batch);
    expect(Math.max(...batches.filter((rows) => rows !== undefined))).toBeGreaterThan(2);
    expect(Math.max(...batches.filter((rows) => rows !== undefined))).toBeLessThanOrEqual(8);
  }
  const alone = await client.infer('counted', [x(1)]);
  expect(alone.json).not.toHaveProperty('parameters');
});

test('requests of other shapes and types, and outputs that others want, are kept apart', async () => {
  const client = await serve({ counted: batched(counted()) });
  const wide = { name: 'x', datatype: 'FP32', shape: [1, 2], data: [5, 6] };
  const whole = { name: 'x', datatype: 'INT64', shape: [1, 1], data: [7] };
  for (let round = 0; round < 2; ++round) {
    const [a, b, c, d, e] = await Promise.all([
      client.infer('counted', [x(1)]),
      client.infer('counted', [x(2)], { outputs: [{ name: 'output.0' }] }),
      client.infer('counted', [x(3)], { outputs: [{ name: 'nothing' }] }),
      client.infer('counted', [wide]),
      client.infer('counted', [whole]),
    ] as const);
    expect(a.json.outputs.map((each: { data: number[] }) => each.data)).toEqual([[2], [1]]);
    expect(b.json.outputs.map((each: { data: number[] }) => each.data)).toEqual([[4]]);
    expect(c).toMatchObject({ status: 400, json: { error: expect.stringContaining("'nothing'") } });
    expect(d.json.outputs[0]).toMatchObject({ shape: [1, 2], data: [10, 12] });
    expect(e.json.outputs[0]).toMatchObject({ datatype: 'INT64', data: [14] });
  }
});

test.each([
  ['mixes the rows of a batch', 'torch.sub(x, torch.mean(x))'],
  ['gives what has no rows', 'torch.sum(x)'],
])('a model that %s gets its requests one by one', async (_, expression) => {
  const source = scriptFile('mixing', `def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  return ${expression}\n`);
  const client = await serve({ mixing: batched(source), single: { source, untrusted: false } });
  for (let round = 0; round < 2; ++round) {
    const ask = (model: string) => Promise.all([1, 2, 3].map((i) => client.infer(model, [x(i)])));
    const [together, single] = await Promise.all([ask('mixing'), ask('single')]);
    expect(together.map(({ json }) => json.outputs)).toEqual(single.map(({ json }) => json.outputs));
    expect(together.some(({ json }) => json.parameters)).toBe(false);
  }
});

test('one that fails, or leaves, takes nobody with it', async () => {
  const source = scriptFile(
    'positive',
    'def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  if bool(torch.lt(torch.min(x), 0)):\n    ops.prim.RaiseException("negative")\n  return torch.mul(x, 2)\n',
  );
  const client = await serve({ positive: batched(source) });
  for (let round = 0; round < 2; ++round) {
    const leaving = new AbortController();
    const left = client.infer('positive', [x(9)], {}, { signal: leaving.signal }).catch(() => 'left');
    const others = Promise.all([1, -1, 2].map((i) => client.infer('positive', [x(i)])));
    setTimeout(() => leaving.abort(), 10);
    const [one, failed, two] = (await others) as [Answer, Answer, Answer];
    expect(await left).toBe('left');
    expect(failed.status).toBe(422);
    expect(one.json).toMatchObject({ outputs: [{ data: [2] }] });
    expect(two.json).toMatchObject({ outputs: [{ data: [4] }] });
  }
});

test('a program whose first size is fixed is not batched', async () => {
  const client = await serve({ llama: batched(programPath('llama')) });
  const ids = { name: 'input_ids', datatype: 'INT64', shape: [2, 5], data: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] };
  const answers = await Promise.all([1, 2, 3].map(() => client.infer('llama', [ids])));
  for (const { status, json } of answers) expect([status, json.parameters]).toEqual([200, undefined]);
});
