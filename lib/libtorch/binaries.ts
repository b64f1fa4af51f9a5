import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { builtIn, filesIn, type Place, prebuiltIn } from './prebuilds';
import {
  buildRequirement,
  compareVersions,
  PINNED_VERSION,
  releaseOf,
  runtimeRequirement,
  type VersionRequirement,
} from './versions';

/** The folder that holds package.json. */
export const PACKAGE_ROOT = resolve(__dirname, '..', '..');

/** What the build writes beside the addon. */
export interface BuildInfo {
  /** The libtorch version that the addon was compiled against: `2.13.0+cpu`. */
  readonly libtorch: string;
}

/** The compiled files of this package for one release of libtorch. */
export interface Binaries {
  readonly directory: string;
  /** The addon: linked against libtorch, without a run path. */
  readonly addon: string;
  /** The addon that opens libtorch first. */
  readonly loader: string;
  readonly info: BuildInfo;
}

/**
 * The folder that a release's addon is built in; CMake puts what it compiled into `Release` below it. That of the pinned
 * release lies where clangd and CMake's own tools look for it.
 */
export function buildDirectory(release: string, packageRoot = PACKAGE_ROOT): string {
  const build = join(packageRoot, 'build');
  return release === releaseOf(PINNED_VERSION) ? build : join(build, 'releases', release);
}

/** The package that holds this platform's binaries, of each release of libtorch. */
export const PLATFORM_PACKAGE = `@libtorch-attention/${process.platform}-${process.arch}`;

/** The folder of that package as it is installed beside this one; null where it isn't. */
function platformFolder(packageRoot: string): string | null {
  try {
    return dirname(createRequire(join(packageRoot, 'package.json')).resolve(`${PLATFORM_PACKAGE}/package.json`));
  } catch {
    return null;
  }
}

/**
 * Where the compiled files of one release may lie, in order: what was built here comes before what was shipped, and the pinned
 * release before others, the newest of which comes first. The environment variable `LIBTORCH_ATTENTION_BINARIES` names a folder to
 * be used instead: an instrumented build, say.
 */
function places(packageRoot: string, env: NodeJS.ProcessEnv = process.env): Place[] {
  const named = env['LIBTORCH_ATTENTION_BINARIES'];
  if (named && packageRoot === PACKAGE_ROOT) return [builtIn(resolve(named))];
  const pinned = releaseOf(PINNED_VERSION) as string;
  const shipped = platformFolder(packageRoot);
  const prebuilt = shipped === null ? new Map<string, Place>() : prebuiltIn(shipped);
  const releases = [...filesIn(join(packageRoot, 'build', 'releases')), ...prebuilt.keys()]
    .filter((name) => releaseOf(name) === name && name !== pinned)
    .sort((left, right) => compareVersions(right, left));
  const known = [pinned, ...new Set(releases)];
  return [
    ...known.map((release) => builtIn(join(buildDirectory(release, packageRoot), 'Release'))),
    ...known.flatMap((release) => prebuilt.get(release) ?? []),
  ];
}

/** The folders that compiled files are looked for in. */
export function binaryDirectories(packageRoot = PACKAGE_ROOT): string[] {
  return [...new Set(places(packageRoot).map(({ directory }) => directory))];
}

/**
 * Finds the compiled files, those of one folder for each release of libtorch; none where neither a build nor prebuilt
 * binaries for this platform are there.
 */
export function findBinaries(packageRoot = PACKAGE_ROOT): Binaries[] {
  const found = new Map<string | null, Binaries>();
  for (const place of places(packageRoot)) {
    const binaries = binariesAt(place);
    if (!binaries) continue;
    const release = releaseOf(binaries.info.libtorch);
    if (!found.has(release)) found.set(release, binaries);
  }
  return [...found.values()];
}

/** Which versions of libtorch the files that were found run on; where none were found, what they could be built against. */
export function requirementOf(found: readonly Binaries[]): VersionRequirement {
  return found.length > 0 ? runtimeRequirement(found.map(({ info }) => info.libtorch)) : buildRequirement();
}

/** Of what was found, the files for a version of libtorch; the first where none is for it, for those who bypass the check. */
export function binariesFor(found: readonly Binaries[], version: string): Binaries | undefined {
  return found.find(({ info }) => releaseOf(info.libtorch) === releaseOf(version)) ?? found[0];
}

/** The compiled files of a folder that a build wrote; null where one of them is missing, or nothing says what they were built against. */
export function binariesIn(directory: string): Binaries | null {
  return binariesAt(builtIn(directory));
}

/** The compiled files for a release in a package like this platform's; null where it has none. */
export function prebuiltBinaries(packageRoot: string, release: string): Binaries | null {
  const place = prebuiltIn(packageRoot).get(release);
  return place ? binariesAt(place) : null;
}

function binariesAt({ buildInfo, ...files }: Place): Binaries | null {
  const info = readBuildInfo(buildInfo);
  return info && existsSync(files.addon) && existsSync(files.loader) ? { ...files, info } : null;
}

function readBuildInfo(path: string): BuildInfo | null {
  try {
    const info = JSON.parse(readFileSync(path, 'utf8')) as BuildInfo;
    return typeof info.libtorch === 'string' ? info : null;
  } catch {
    return null;
  }
}
