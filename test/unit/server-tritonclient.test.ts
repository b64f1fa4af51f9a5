import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { programPath } from './exported-fixtures';
import { echo, serve } from './server-fixtures';

/** A Python that has tritonclient[http]: the one that is named, or the first of the path. */
const python = process.env['TRITONCLIENT_PYTHON'] ?? 'python3';
const installed = spawnSync(python, ['-c', 'import tritonclient.http']).status === 0;
if (!installed) {
  process.stderr.write(
    `Left out: the test with the client of Triton Inference Server, since ${python} has no tritonclient[http] (TRITONCLIENT_PYTHON names another Python)\n`,
  );
}

(installed ? test : test.skip)(
  'the client of Triton Inference Server talks to it',
  async () => {
    const client = await serve({ echo: echo(), structures: programPath('structures') });
    const script = join(__dirname, 'server-tritonclient.py');
    const { stdout } = await promisify(execFile)(python, [script, new URL(client.url).host]);
    expect(stdout.trim()).toBe('passed');
  },
  180_000,
); // some hundred requests of a client that takes seconds to start
