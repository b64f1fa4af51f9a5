import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The libtorch release that is fetched, tested, and that prebuilt binaries are made for. */
export const PINNED_VERSION = '2.13.0';

/** The CUDA flavour that `setup --cuda` fetches, as PyTorch names it. */
export const PINNED_CUDA = 'cu130';

/** The oldest release that the sources compile against. */
const OLDEST_SOURCE_RELEASE = '2.11';

/** A version number without its local part (`+cpu`, `+cu130`). */
export interface Release {
  major: number;
  minor: number;
  patch: number;
}

/** Which versions of libtorch will do, and how to say so in a message: `2.13.x`. */
export interface VersionRequirement {
  readonly description: string;
  accepts(version: string): boolean;
}

/** Reads `2.13.0`, `2.13.0+cpu` or `2.13.0a0+gitcf30153`; null for what is no version. */
export function parseRelease(version: string): Release | null {
  const match = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(version.trim());
  if (!match) return null;
  return { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3] ?? 0) };
}

/** A number that orders releases by major and minor; NaN for what is no version. */
function order(version: string): number {
  const release = parseRelease(version);
  return release ? release.major * 1000 + release.minor : Number.NaN;
}

/** What an addon built against `builtAgainst` runs on: libtorch's C++ ABI holds within a minor release only. */
export function runtimeRequirement(builtAgainst: string): VersionRequirement {
  const release = parseRelease(builtAgainst);
  return {
    description: release ? `${release.major}.${release.minor}.x` : builtAgainst,
    accepts: (version) => order(version) === order(builtAgainst),
  };
}

/** What the sources compile against. */
export function buildRequirement(): VersionRequirement {
  const newest = parseRelease(PINNED_VERSION) as Release;
  return {
    description: `${OLDEST_SOURCE_RELEASE} to ${newest.major}.${newest.minor} (${PINNED_VERSION} is what is tested)`,
    accepts: (version) => order(version) >= order(OLDEST_SOURCE_RELEASE) && order(version) <= order(PINNED_VERSION),
  };
}

/** Whether the user asked to run on whatever version is found. */
export function bypassesVersionCheck(env: NodeJS.ProcessEnv): boolean {
  return env['LIBTORCH_ATTENTION_BYPASS_VERSION_CHECK'] === '1';
}

/** Turns PyTorch's `cu130` into `13.0`; null where the text holds no CUDA flavour. */
function cudaOfFlavour(text: string): string | null {
  const match = /\bcu(\d+)(\d)\b/.exec(text);
  return match ? `${match[1]}.${match[2]}` : null;
}

function readText(path: string): string | null {
  return existsSync(path) ? readFileSync(path, 'utf8') : null;
}

/**
 * Reads the version of a libtorch without loading it: from `version.py` (a Python torch), `build-version` (the official
 * archive) or its headers. `cuda` is the CUDA release it was built with, or null where these files name none.
 * Returns null where nothing says the version.
 */
export function readVersion(root: string): { version: string; cuda: string | null } | null {
  const python = readText(join(root, 'version.py'));
  const version = python && /^__version__\s*(?::[^=\n]*)?=\s*['"]([^'"]+)['"]/m.exec(python)?.[1];
  if (version) {
    const cuda = /^cuda\s*(?::[^=\n]*)?=\s*['"]([^'"]+)['"]/m.exec(python)?.[1];
    return { version, cuda: cuda ?? cudaOfFlavour(version) };
  }
  const archive = readText(join(root, 'build-version'))?.trim();
  if (archive && parseRelease(archive)) return { version: archive, cuda: cudaOfFlavour(archive) };
  for (const header of ['include/torch/headeronly/version.h', 'include/torch/version.h']) {
    const match = /^#define TORCH_VERSION\s+(?:\\\s*)?"([^"]+)"/m.exec(readText(join(root, header)) ?? '');
    if (match?.[1]) return { version: match[1], cuda: null };
  }
  return null;
}
