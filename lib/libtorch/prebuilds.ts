import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

// The names of compiled files: those that a build writes, and those that prebuildify makes of them, which are chosen by the rules of
// node-gyp-build. That itself knows no releases of libtorch, which come first here.

/** Where the compiled files for one release of libtorch lie, if they are there. */
export interface Place {
  readonly directory: string;
  /** The addon: linked against libtorch, without a run path. */
  readonly addon: string;
  /** The addon that opens libtorch first. */
  readonly loader: string;
  /** Says what they were built against. */
  readonly buildInfo: string;
}

/** Those that a build wrote into a folder. */
export function builtIn(directory: string): Place {
  const [addon = '', loader = '', buildInfo = ''] = BUILT.map((name) => join(directory, name));
  return { directory, addon, loader, buildInfo };
}

/** What a build leaves in its folder for the package to load. */
export const BUILT: readonly string[] = ['attention.node', 'loader.node', 'build-info.json'];

/**
 * Those for this platform in a package with a folder `prebuilds`, by their release of libtorch.
 *
 * @param packageRoot has `prebuilds/linux-x64/attention-2.13.glibc.node`, `loader-2.13.glibc.node` and `attention-2.13.json`
 */
export function prebuiltIn(packageRoot: string): Map<string, Place> {
  const found = new Map<string, Place>();
  const folder = filesIn(join(packageRoot, 'prebuilds'))
    .filter(isOfThisPlatform)
    // One for this architecture alone comes before one for several.
    .sort((one, other) => one.length - other.length)[0];
  if (folder === undefined) return found;
  const directory = join(packageRoot, 'prebuilds', folder);
  const files = filesIn(directory).map(parseName).filter(fitsHere);
  files.sort((one, other) => other.tags.length - one.tags.length);
  const pathOf = (module: string, release: string) => {
    const file = files.find((each) => each.module === module && each.release === release);
    return file && join(directory, file.name);
  };
  for (const { module, release } of files) {
    const [addon, loader] = [pathOf('attention', release), pathOf('loader', release)];
    if (module !== 'attention' || !addon || !loader) continue;
    found.set(release, { directory, addon, loader, buildInfo: join(directory, `attention-${release}.json`) });
  }
  return found;
}

/** The names in a folder; none where it isn't there. */
export function filesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** `linux-x64`, or one for several architectures: `darwin-x64+arm64`. */
function isOfThisPlatform(name: string): boolean {
  const [platform, architectures, ...more] = name.split('-');
  return platform === process.platform && (architectures ?? '').split('+').includes(process.arch) && more.length === 0;
}

interface PrebuiltFile {
  name: string;
  module: string;
  release: string;
  tags: string[];
}

/** Takes `attention-2.13.glibc.node` apart; null for what isn't named so. */
function parseName(name: string): PrebuiltFile | null {
  const [, module = '', release = '', tags = ''] = /^([a-z]+)-(\d+\.\d+)((?:\.[a-z]\w*)*)\.node$/.exec(name) ?? [];
  return module ? { name, module, release, tags: tags.split('.').slice(1) } : null;
}

/** Whether a file is one, and for the C library of this system. Other tags say nothing against it. */
function fitsHere(file: PrebuiltFile | null): file is PrebuiltFile {
  const other = existsSync('/etc/alpine-release') ? 'glibc' : 'musl';
  return file !== null && !file.tags.includes(other);
}
