import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, runLogged } from './process.mjs';
import { step } from './progress.mjs';

/** Installs what package-lock.json names, unless exactly that is there already. */
export async function installDependencies() {
  if (isInstalled()) return;
  await step('Installing the packages of package-lock.json', () => runLogged('npm', ['ci'], { log: 'npm' }));
}

function isInstalled() {
  // npm keeps a lock file of what it installed.
  const installed = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return false;
  const packages = (path) => JSON.parse(readFileSync(path, 'utf8')).packages;
  const present = packages(installed);
  return Object.entries(packages(join(root, 'package-lock.json'))).every(([path, wanted]) => {
    if (path === '' || (wanted.optional && !present[path])) return true;
    return present[path]?.version === wanted.version;
  });
}
