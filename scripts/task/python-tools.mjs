import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { modules } from './libtorch.mjs';
import { cache, Failure, output, runLogged } from './process.mjs';
import { step } from './progress.mjs';

const requirements = 'scripts/requirements.txt';

/**
 * The tools of scripts/requirements.txt, installed by pip where they aren't yet.
 * @returns the path of one of their commands by its name
 */
export async function pythonTools() {
  const python = modules('python').findPython(process.env);
  if (!python || !output(python, ['-m', 'venv', '--help'])) {
    throw new Failure(`Expected python3 with venv, for the tools of ${requirements}.`);
  }
  const environment = join(cache, 'python');
  const program = (name) =>
    process.platform === 'win32' ? join(environment, 'Scripts', `${name}.exe`) : join(environment, 'bin', name);
  await step(`Installing the tools of ${requirements}`, async () => {
    if (!existsSync(program('python'))) await runLogged(python, ['-m', 'venv', environment], { log: 'venv' });
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements];
    await runLogged(program('python'), pip, { log: 'pip' });
  });
  return program;
}
