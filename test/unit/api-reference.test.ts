import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ERROR_CODES } from '../../lib/core/error-codes';
import { SERVER_ERROR_CODES } from '../../lib/server/request-error';

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

test('every code says what it means, why it comes up and what to do', () => {
  for (const [code, { meaning, cause, remedy }] of Object.entries({ ...ERROR_CODES, ...SERVER_ERROR_CODES })) {
    // Sentences, in cells of a table.
    for (const text of [meaning, cause, remedy])
      expect([code, text]).toEqual([code, expect.stringMatching(/^[^|\n]{10,}\.$/)]);
  }
});
