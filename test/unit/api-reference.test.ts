import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');

test('docs/api is what the docstrings make, and each public name is described in full', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/task.mjs', 'docs', '--check'], {
    cwd: root,
    encoding: 'utf8',
  });
  expect(`${stdout}${stderr}`).toBe('');
  expect(status).toBe(0);
  // About ten seconds of computing, on a machine that has them.
}, 180_000);
