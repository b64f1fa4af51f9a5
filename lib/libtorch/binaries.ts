import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The folder that holds package.json. */
export const PACKAGE_ROOT = resolve(__dirname, '..', '..');

/** What the build writes beside the addon. */
export interface BuildInfo {
  /** The libtorch version that the addon was compiled against: `2.13.0+cpu`. */
  readonly libtorch: string;
}

/** The compiled files of this package. */
export interface Binaries {
  readonly directory: string;
  /** The addon: linked against libtorch, without a run path. */
  readonly addon: string;
  /** The addon that opens libtorch first. */
  readonly loader: string;
  readonly info: BuildInfo;
}

/**
 * The folders that may hold the compiled files, in order: what was built here comes before what was shipped. The
 * environment variable `LIBTORCH_ATTENTION_BINARIES` names one to be used instead: an instrumented build, say.
 */
export function binaryDirectories(packageRoot = PACKAGE_ROOT, env: NodeJS.ProcessEnv = process.env): string[] {
  const named = env['LIBTORCH_ATTENTION_BINARIES'];
  if (named && packageRoot === PACKAGE_ROOT) return [resolve(named)];
  return [join(packageRoot, 'build', 'Release'), join(packageRoot, 'prebuilds', `${process.platform}-${process.arch}`)];
}

/** Finds the compiled files; null where neither a build nor a prebuilt binary for this platform is there. */
export function findBinaries(packageRoot = PACKAGE_ROOT): Binaries | null {
  for (const directory of binaryDirectories(packageRoot)) {
    const binaries = binariesIn(directory);
    if (binaries) return binaries;
  }
  return null;
}

/** The compiled files of one folder; null where one of them is missing. */
export function binariesIn(directory: string): Binaries | null {
  const addon = join(directory, 'attention.node');
  const loader = join(directory, 'loader.node');
  const info = join(directory, 'build-info.json');
  if (![addon, loader, info].every((path) => existsSync(path))) return null;
  return { directory, addon, loader, info: JSON.parse(readFileSync(info, 'utf8')) as BuildInfo };
}
