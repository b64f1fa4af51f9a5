import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TorchError } from '../core/errors';
import { cacheDirectory } from './cache';
import { findPythonTorch } from './python';
import {
  buildRequirement,
  bypassesVersionCheck,
  compareVersions,
  PINNED_VERSION,
  readVersion,
  releaseOf,
  SERVED_RELEASES,
  type VersionRequirement,
} from './versions';

/** Where a libtorch was found, in the order in which the places are looked at. */
export type LibtorchSource = 'LIBTORCH' | 'python' | 'cache';

/** A libtorch on this machine. All paths are absolute. */
export interface Libtorch {
  readonly root: string;
  readonly lib: string;
  readonly include: string;
  /** The folder for CMake's `CMAKE_PREFIX_PATH` (it holds `Torch/TorchConfig.cmake`). */
  readonly cmake: string;
  /** As libtorch itself says it: `2.13.0+cpu`. */
  readonly version: string;
  /** The CUDA release it was built with (`13.0`), or null for a CPU build. */
  readonly cuda: string | null;
  readonly source: LibtorchSource;
  /** The shared libraries that everything needs, in the order in which they have to be opened. */
  readonly libraries: readonly string[];
  /** Those of a CUDA build that need CUDA's own libraries, to be opened next: without them models run on the CPU. */
  readonly cudaLibraries: readonly string[];
}

/** A place that was looked at in vain. `version` is set where a libtorch is there, of a version that won't do. */
export interface Rejection {
  readonly source: LibtorchSource;
  readonly place: string;
  readonly reason: string;
  readonly version?: string;
}

export interface LocateOptions {
  /** Default: the process's environment. */
  env?: NodeJS.ProcessEnv;
  /** Which versions will do. Default: what the sources compile against. */
  requirement?: VersionRequirement;
}

/** The outcome of looking everywhere: what was found, and what was passed over on the way. */
export interface Search {
  readonly found: Libtorch | null;
  readonly rejected: readonly Rejection[];
}

/**
 * Finds libtorch: the folder that the environment variable `LIBTORCH` names; else the torch that `python3` can import,
 * unless `LIBTORCH_ATTENTION_SKIP_PYTHON=1`; else what `libtorch-attention setup` fetched into the user's cache
 * directory. Nothing is loaded.
 *
 * @throws TorchError `ERR_LIBTORCH_NOT_FOUND` with the places that were looked at, or `ERR_LIBTORCH_VERSION` where all
 *   that was found is of a version that won't do (`LIBTORCH_ATTENTION_BYPASS_VERSION_CHECK=1` takes it nevertheless).
 */
export function locateLibtorch(options: LocateOptions = {}): Libtorch {
  const { requirement = buildRequirement() } = options;
  const { found, rejected } = searchLibtorch(options);
  if (found) return found;
  throw notFound(rejected, requirement);
}

/** Like `locateLibtorch`, for those who want to know what was passed over, and go on where nothing was found. */
export function searchLibtorch(options: LocateOptions = {}): Search {
  const { env = process.env, requirement = buildRequirement() } = options;
  const bypass = bypassesVersionCheck(env);
  const rejected: Rejection[] = [];
  for (const candidate of candidates(env)) {
    const inspected = 'root' in candidate ? inspectLibtorch(candidate.root, candidate.source) : candidate;
    if ('reason' in inspected) {
      rejected.push(inspected);
    } else if (bypass || requirement.accepts(inspected.version)) {
      return { found: inspected, rejected };
    } else {
      const { source, root, version } = inspected;
      rejected.push({ source, place: root, reason: `its version is ${version}`, version });
    }
  }
  return { found: null, rejected };
}

/** Yields the folders to look at, in order, and the places where there is none. */
function* candidates(env: NodeJS.ProcessEnv): Generator<{ root: string; source: LibtorchSource } | Rejection> {
  const named = env['LIBTORCH'];
  if (named) {
    // An explicit wish is never silently replaced by something else.
    yield { root: resolve(named), source: 'LIBTORCH' };
    return;
  }
  yield { source: 'LIBTORCH', place: 'the environment variable LIBTORCH', reason: 'it is not set' };

  if (env['LIBTORCH_ATTENTION_SKIP_PYTHON'] === '1') {
    yield { source: 'python', place: 'python3', reason: 'LIBTORCH_ATTENTION_SKIP_PYTHON=1 asks not to look there' };
  } else {
    const python = findPythonTorch(env);
    if (python?.torch) yield { root: python.torch, source: 'python' };
    else if (python) yield { source: 'python', place: python.python, reason: 'it has no torch' };
    else yield { source: 'python', place: 'python3', reason: 'there is no python3 on the PATH' };
  }

  const directory = cacheDirectory(env);
  const cached = cachedRoots(directory);
  if (cached.length === 0) yield { source: 'cache', place: directory, reason: 'it holds no libtorch' };
  for (const root of cached) yield { root, source: 'cache' };
}

/** The libtorch folders in the cache: the newest release first, CUDA before CPU (who fetched it wants it). */
function cachedRoots(directory: string): string[] {
  if (!existsSync(directory)) return [];
  const cuda = (name: string): number => Number(name.includes('+cu'));
  return readdirSync(directory)
    .filter((name) => releaseOf(name) !== null)
    .sort((left, right) => compareVersions(right, left) || cuda(right) - cuda(left))
    .flatMap((name) => rootsInSite(join(directory, name)));
}

/** pip lays out a folder `torch` (with the libraries it needs beside it), the official archive a folder `libtorch`. */
export function rootsInSite(site: string): string[] {
  return ['torch', 'libtorch'].map((name) => join(site, name)).filter((root) => existsSync(root));
}

function libraryFile(name: string): string {
  if (process.platform === 'win32') return `${name}.dll`;
  return `lib${name}.${process.platform === 'darwin' ? 'dylib' : 'so'}`;
}

/** Looks at one folder: a complete libtorch, or the reason why it is none. */
export function inspectLibtorch(root: string, source: LibtorchSource): Libtorch | Rejection {
  const reject = (reason: string): Rejection => ({ source, place: root, reason });
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory()) return reject('there is no such folder');
  const lib = join(root, 'lib');
  const path = (name: string): string => join(lib, libraryFile(name));
  const missing = ['c10', 'torch_cpu', 'torch'].filter((name) => !existsSync(path(name)));
  if (missing.length > 0) {
    const inside = rootsInSite(root)[0];
    const hint = inside ? `; did you mean ${inside}?` : '';
    return reject(`it has no ${missing.map((name) => `lib/${libraryFile(name)}`).join(', ')}${hint}`);
  }
  const stated = readVersion(root);
  if (!stated) return reject('nothing in it says its version (no version.py, build-version or torch/version.h)');
  const hasCuda = existsSync(path('torch_cuda'));
  // libtorch itself holds nothing but the names of the others: that of a CUDA build asks for torch_cuda.
  const names = ['c10', 'torch_cpu', ...(hasCuda ? [] : ['torch'])];
  return {
    root,
    lib,
    include: join(root, 'include'),
    cmake: join(root, 'share', 'cmake'),
    version: stated.version,
    cuda: hasCuda ? (stated.cuda ?? 'unknown') : null,
    source,
    libraries: names.map(path),
    cudaLibraries: hasCuda ? ['torch_cuda', 'torch'].map(path) : [],
  };
}

function notFound(rejected: readonly Rejection[], requirement: VersionRequirement): TorchError {
  const places = rejected.map(({ place, reason }) => `  - ${place}: ${reason}`).join('\n');
  const unsuitable = rejected.filter(({ version }) => version !== undefined);
  const explicit = rejected.length === 1 && rejected[0]?.source === 'LIBTORCH';
  const remedy = explicit
    ? 'Set LIBTORCH to a folder with lib/ and include/ of libtorch, or unset it to have libtorch looked for elsewhere.'
    : `Run "npx libtorch-attention setup" to fetch libtorch ${PINNED_VERSION}, or set LIBTORCH to a folder that holds one.`;
  if (unsuitable.length > 0) {
    const versions = [...new Set(unsuitable.map(({ version }) => version))].join(' and ');
    // Served by the sources, but no binaries are here for it.
    const buildable = unsuitable.some(({ version }) => SERVED_RELEASES.includes(releaseOf(version ?? '') ?? ''));
    const served = buildable
      ? `Binaries are here for ${requirement.description} only; "npx libtorch-attention build" ("npm run build" in a checkout) makes those for what is found, of ${SERVED_RELEASES.join(', ')}. `
      : `Served are the releases ${SERVED_RELEASES.join(', ')}. `;
    return new TorchError(
      'ERR_LIBTORCH_VERSION',
      `Expected libtorch ${requirement.description} but found ${versions}. Looked at:\n${places}\n${served}${remedy} ` +
        'To try it nevertheless, set LIBTORCH_ATTENTION_BYPASS_VERSION_CHECK=1.',
    );
  }
  return new TorchError(
    'ERR_LIBTORCH_NOT_FOUND',
    `Expected libtorch ${requirement.description} but found none. Looked at:\n${places}\n${remedy}`,
  );
}
