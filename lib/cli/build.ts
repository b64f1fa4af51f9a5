import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { TorchError } from '../core/errors';
import { PACKAGE_ROOT } from '../libtorch/binaries';
import { type Libtorch, locateLibtorch } from '../libtorch/locate';
import { describeLibtorch } from './setup';

/** What scripts/task/native.mjs exports, which a checkout builds with as well. */
interface NativeBuild {
  releaseBuild(version: string): { directory: string; title: string; options: string[] };
  buildNative(build: object, libtorch: Libtorch): Promise<string>;
}

/** Adds `build`: compiles the addon from the sources in the package. */
export function registerBuild(program: Command): void {
  program
    .command('build')
    .description('compile the addon from the sources in this package, for the libtorch that is found')
    .addHelpText(
      'after',
      `
For platforms and releases of libtorch that no binaries were published for. Needs CMake, a C++ compiler for C++20 and a libtorch
with headers: python3's torch has them, and so has what setup fetches. Takes minutes.

Examples:
  libtorch-attention build
  LIBTORCH=/opt/libtorch libtorch-attention build`,
    )
    .action(async () => {
      const libtorch = locateLibtorch();
      const script = pathToFileURL(join(PACKAGE_ROOT, 'scripts', 'task', 'native.mjs')).href;
      const { buildNative, releaseBuild } = (await import(script)) as NativeBuild;
      process.stderr.write(`Compiling for ${describeLibtorch(libtorch)}; this takes minutes.\n`);
      try {
        process.stdout.write(`${await buildNative(releaseBuild(libtorch.version), libtorch)}\n`);
      } catch (cause) {
        if ((cause as Error).name === 'TorchError') throw cause;
        throw new TorchError('ERR_ADDON_LOAD', (cause as Error).message, { cause });
      }
    });
}
