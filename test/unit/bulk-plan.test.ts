import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { planFiles } from '../../lib/bulk/plan';

const folder = mkdtempSync(join(tmpdir(), 'bulk-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('results beside the inputs are none of the inputs of the next run, unless they are named', async () => {
  const results = join(folder, 'results');
  mkdirSync(results);
  for (const path of [
    'b.safetensors',
    'a.safetensors',
    'results/00000000.safetensors',
    'results-of-others.safetensors',
  ])
    writeFileSync(join(folder, path), path);
  const pattern = `${folder}/**/*.safetensors`;
  const names = async (...patterns: string[]) =>
    (await planFiles(patterns, results)).files?.map((file) => basename(file));
  expect(await names(pattern)).toEqual(['a.safetensors', 'b.safetensors', 'results-of-others.safetensors']);
  expect(await names(join(results, '00000000.safetensors'))).toEqual(['00000000.safetensors']);
  const { fingerprint } = await planFiles([pattern], results);
  writeFileSync(join(results, '00000001.safetensors'), 'later');
  expect((await planFiles([pattern], results)).fingerprint).toBe(fingerprint);
});
