import { existsSync } from 'node:fs';
import { TorchError } from '../core/errors';
import { reasonOf } from '../core/validate';
import {
  type Binaries,
  binariesFor,
  binaryDirectories,
  findBinaries,
  PACKAGE_ROOT,
  PLATFORM_PACKAGE,
  requirementOf,
} from './binaries';
import { damageOf, versionsNeeded } from './elf';
import { type Libtorch, locateLibtorch } from './locate';
import { firstTrial } from './verify';
import { type WaitPolicy, waitPolicy, waitVariables } from './wait-policy';

/** What was loaded: the raw addon, and what it runs on. */
export interface Loaded {
  readonly addon: unknown;
  readonly libtorch: Libtorch;
  readonly binaries: Binaries;
  /** Why the CUDA part of a CUDA build could not be opened; null where it was, or there is none. */
  readonly withoutCuda: string | null;
}

let loaded: Loaded | undefined;

/**
 * Locates libtorch, opens it, and loads the addon; once per thread, later calls return the same.
 *
 * @throws TorchError `ERR_ADDON_LOAD` where the compiled addon is missing or can't be loaded, `ERR_LIBTORCH_NOT_FOUND`
 *   and `ERR_LIBTORCH_VERSION` as `locateLibtorch` does.
 */
export function loadAddon(): unknown {
  return load().addon;
}

/** Like `loadAddon`, and says which files were loaded. */
export function load(): Loaded {
  loaded ??= loadFrom(requireBinaries(), process.env);
  return loaded;
}

/** The compiled files, of one release of libtorch at least, or an error that says how to get them. */
export function requireBinaries(packageRoot = PACKAGE_ROOT): Binaries[] {
  const binaries = findBinaries(packageRoot);
  if (binaries.length > 0) return binaries;
  const places = binaryDirectories(packageRoot).map((directory) => `  - ${directory}`);
  throw new TorchError(
    'ERR_ADDON_LOAD',
    `Expected the compiled files for ${process.platform}-${process.arch} in the package ${PLATFORM_PACKAGE}, or attention.node, ` +
      `loader.node and build-info.json in one of\n${places.join('\n')}\nbut found them in none.\nWhat may help:\n` +
      `  - "npm install ${PLATFORM_PACKAGE}": it is an optional dependency, which installs with --omit=optional, or from a lock ` +
      'file of another platform, leave out.\n' +
      '  - "npx libtorch-attention build" where there is no such package ("npm run build" in a checkout): it compiles them, with CMake and a C++ compiler.',
  );
}

/** The libtorch that `env` leads to, and those of the compiled files that are for it. Nothing is loaded. */
export function chooseBinaries(
  available: readonly Binaries[] = requireBinaries(),
  env: NodeJS.ProcessEnv = process.env,
): { libtorch: Libtorch; binaries: Binaries } {
  const libtorch = locateLibtorch({ env, requirement: requirementOf(available) });
  return { libtorch, binaries: binariesFor(available, libtorch.version) as Binaries };
}

/** Why a file among those that are loaded can't be whole; undefined where none says so. Loading it would end the process. */
function damageAmong({ libraries, cudaLibraries }: Libtorch, { loader, addon }: Binaries): string | undefined {
  for (const path of [...libraries, ...cudaLibraries, loader, addon]) {
    const damage = damageOf(path);
    if (damage) return `${path} is not whole: ${damage}`;
  }
  return undefined;
}

/** Loads those of the given files that are for the libtorch that `env` leads to. */
export function loadFrom(available: readonly Binaries[], env: NodeJS.ProcessEnv): Loaded {
  const { libtorch, binaries } = chooseBinaries(available, env);
  let withoutCuda: string | null = null;
  const place = `libtorch ${libtorch.version} at ${libtorch.root} (found by ${libtorch.source})`;
  const broken = damageAmong(libtorch, binaries) ?? firstTrial(libtorch, binaries, env);
  if (broken) throw addonLoadError(`Expected to load ${binaries.addon} on ${place}`, new Error(broken));
  try {
    const loader = loaderOf(binaries);
    loader.open(libtorch.libraries, waitVariables(waitPolicy(loader)));
    try {
      // Before the addon, which is linked against none of it: a linker would drop what nothing refers to.
      loader.open(libtorch.cudaLibraries);
    } catch (cause) {
      // CUDA's own libraries aren't here, as on a machine without a GPU. The CPU part serves without them.
      withoutCuda = reasonOf(cause);
    }
  } catch (cause) {
    throw addonLoadError(`Expected to open ${place}`, cause);
  }
  try {
    return { addon: require(binaries.addon), libtorch, binaries, withoutCuda };
  } catch (cause) {
    throw addonLoadError(
      `Expected to load ${binaries.addon}, built against libtorch ${binaries.info.libtorch}, on ${place}`,
      cause,
    );
  }
}

/** The addon that opens libtorch. */
interface Loader {
  /** Opens libraries for the rest of the process, with variables of its environment set meanwhile. */
  open(paths: readonly string[], variables?: readonly [name: string, value: string][]): void;
  variable(name: string): string | undefined;
  loaded(name: string): string | undefined;
}

const loaderOf = ({ loader }: Binaries): Loader => require(loader) as Loader;

/** How threads of libtorch's OpenMP runtime will wait for work, where libtorch isn't open yet. */
export function waitPolicyAhead(binaries: Binaries): WaitPolicy {
  return waitPolicy(loaderOf(binaries));
}

function addonLoadError(expectation: string, cause: unknown): TorchError {
  const reason = reasonOf(cause);
  const remedies = remediesFor(reason).map((remedy) => `\n  - ${remedy}`);
  return new TorchError(
    'ERR_ADDON_LOAD',
    `${expectation} but received: ${reason}\nWhat may help:${remedies.join('')}`,
    {
      cause,
    },
  );
}

/** What a library needs of the system, and what there is: ` (x.node needs GLIBC 2.34, …; this system has glibc 2.31)`. */
function needsOf(path: string | undefined): string {
  if (!path || !existsSync(path)) return '';
  const list = Object.entries(versionsNeeded(path)).map(([family, version]) => `${family} ${version}`);
  const { glibcVersionRuntime } = reportHeader();
  const here = glibcVersionRuntime ? `; this system has glibc ${glibcVersionRuntime}` : '';
  return ` (${path} needs ${list.join(', ')}${here})`;
}

function reportHeader(): { glibcVersionRuntime?: string } {
  const { report } = process;
  // Without it, names of addresses would be looked up.
  Object.assign(report, { excludeNetwork: true });
  return (report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }).header;
}

/** What may help against a message of the system's library loader. */
export function remediesFor(reason: string): string[] {
  const remedies: string[] = [];
  const tooOld = /(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found(?: \(required by ([^)]+)\))?/.exec(reason);
  if (tooOld) {
    const tooNew = tooOld[1];
    remedies.push(
      `The C or C++ library of this system is too old${needsOf(tooNew)}: use a newer system` +
        (tooNew?.endsWith('.node') ? ', or compile for this one with "npx libtorch-attention build".' : '.'),
    );
  }
  if (/is not whole|SIGBUS|SIGSEGV|file too short|invalid ELF header/.test(reason)) {
    remedies.push(
      'A library is damaged, as by a download or a copy that was cut off: install torch anew, or remove its folder from the ' +
        'cache and run "npx libtorch-attention setup".',
    );
  }
  if (/lib(cu|nv|nccl)\w*\.so/.test(reason)) {
    remedies.push(
      "CUDA's libraries are missing: install the torch wheel with its dependencies, or run " +
        '"npx libtorch-attention setup" and set LIBTORCH_ATTENTION_SKIP_PYTHON=1 to use the CPU build.',
    );
  }
  if (/libgomp/.test(reason))
    remedies.push('Install the OpenMP runtime (Debian and Ubuntu: apt-get install libgomp1).');
  if (/undefined symbol|Symbol not found|procedure could not be found/i.test(reason)) {
    remedies.push(
      'The addon and libtorch do not match: compile it anew with "npx libtorch-attention build" ("npm run build" in a checkout), or use another libtorch.',
    );
  }
  remedies.push('Run "npx libtorch-attention doctor" to see what was found.');
  return remedies;
}
