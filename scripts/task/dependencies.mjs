import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root, runLogged } from './process.mjs';
import { step } from './progress.mjs';

/** Installs what package-lock.json names, unless npm has done so since that file changed. */
export async function installDependencies() {
  // npm keeps a lock file of what it installed, and writes it anew each time it has looked.
  if (changed('node_modules', '.package-lock.json') >= changed('package-lock.json')) return;
  // Written in place, it would change in every copy of this checkout that is made of hard links.
  rmSync(join(root, 'node_modules', '.package-lock.json'), { force: true });
  const args = ['install', '--no-save', '--no-audit', '--no-fund', '--prefer-offline'];
  await step('Installing the packages of package-lock.json', () => runLogged('npm', args, { log: 'npm' }));
}

function changed(...path) {
  return statSync(join(root, ...path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
