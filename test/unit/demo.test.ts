import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './fake-libtorch';

const ROOT = join(__dirname, '../..');
const folder = temporaryFolder();

function run(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
  return stdout;
}

describe('npm run demo', () => {
  test('on dates of one’s own reads those alone', () => {
    const output = run(join(ROOT, 'examples/demo.mjs'), '12 May 2021');
    expect(output).toMatch(/12 May 2021 {2}→ {2}2021-05-12/);
    expect(output).not.toContain('Held-out');
    expect(existsSync(join(folder, 'attention.html'))).toBe(true);
  });

  test('says ahead of the first build how long that takes', () => {
    const script = `import { firstBuildNotice } from ${JSON.stringify(join(ROOT, 'scripts/task/native.mjs'))}; console.log(firstBuildNotice(2));`;
    expect(run('--input-type=module', '-e', script)).toMatch(/^The first run compiles the addon: about 8 minutes here/);
  });
});
