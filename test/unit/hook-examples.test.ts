import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const root = join(__dirname, '..', '..');

async function lines(name: string): Promise<string[]> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'examples', `${name}.mjs`)], {
    cwd: root,
  });
  return stdout.trimEnd().split('\n');
}

describe('examples', () => {
  test('activation patching: the answer follows the patch, and comes back without it', async () => {
    const answers = (await lines('activation-patching')).map((line) => line.at(-1));
    expect(answers).toEqual(['2', '3', '3', '2']);
  });

  test('silencing a head changes the logits, each by another amount', async () => {
    const changes = (await lines('silence-a-head')).map((line) => Number(line.split(' ').at(-1)));
    expect(changes).toHaveLength(4);
    for (const change of changes) expect(change).toBeGreaterThan(0.01);
    expect(new Set(changes).size).toBeGreaterThan(1);
  });

  test('activations of a layer over a data set', async () => {
    const [first, second] = await lines('collect-activations');
    expect(first).toBe('32 texts, 64 activations each');
    expect(second?.match(/-?\d\.\d{3}/g)).toHaveLength(4);
  });

  test('token relevance: the month comes from its name', async () => {
    const [head, ...rows] = await lines('token-relevance');
    expect(head).toBe('12 may 2021 → 2021-05');
    const relevance = rows.map((row) => Number(row.split(' ').at(-1)));
    expect(relevance).toHaveLength('12 may 2021'.length);
    expect([3, 4, 5]).toContain(relevance.indexOf(Math.max(...relevance)));
  });

  test('a generation with caches: every step sees one key more, and all of them make one matrix a layer', async () => {
    const output = await lines('generate');
    expect(output.slice(0, 7)).toEqual(
      Array.from({ length: 7 }, (_, i) => `step ${i}: queries from ${i === 0 ? 0 : i + 3}, ${i + 4} keys`),
    );
    expect(output[7]).toMatch(/^3 14 15 9 → \d+( \d+){6}$/);
    expect(output.slice(8)).toEqual([
      'model.transformer.h.0.attn [1, 2, 10, 10]',
      'model.transformer.h.1.attn [1, 2, 10, 10]',
    ]);
  });
});
