import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { modules, verify } from './libtorch.mjs';
import { root, runLogged } from './process.mjs';

/** What a build leaves in its folder Release for the package to load. */
const products = ['attention.node', 'loader.node', 'build-info.json'];

/** Copies what is loaded from one folder to another. */
export function copyProducts(from, to) {
  mkdirSync(to, { recursive: true });
  for (const name of products) copyFileSync(join(from, name), join(to, name));
}

/**
 * Writes what is published to packages/, with the binaries of these builds and no others.
 * @param made each with the libtorch that was built against, and the folder of its binaries
 */
export async function writePackages(made) {
  const { prebuiltDirectory } = modules('binaries');
  const { releaseOf } = modules('versions');
  for (const folder of ['prebuilds', 'packages']) rmSync(join(root, folder), { recursive: true, force: true });
  for (const { libtorch, binaries } of made) {
    const directory = prebuiltDirectory(releaseOf(libtorch.version));
    copyProducts(binaries, directory);
    await verify(libtorch, directory);
  }
  const packages = join(root, 'packages');
  mkdirSync(packages);
  await runLogged('npm', ['pack', '--pack-destination', packages], { log: 'pack' });
  for (const name of readdirSync(packages)) console.log(join('packages', name));
}
