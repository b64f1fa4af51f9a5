import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The releases of libtorch that are served: the sources compile against each and pass the tests on it. */
export const SERVED_RELEASES: readonly string[] = ['2.11', '2.12', '2.13', '2.14', '2.15'];

/** The version of libtorch that is fetched where none is found, and that the tests in CI run on. */
export const PINNED_VERSION = '2.13.0';

/** The CUDA flavour that `setup --cuda` fetches, as PyTorch names it. */
export const PINNED_CUDA = 'cu130';

/** A version number without its local part (`+cpu`, `+cu130`). */
export interface Release {
  major: number;
  minor: number;
  patch: number;
}

/** Which versions of libtorch will do, and how to say so in a message: `2.13.x or 2.14.x`. */
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

/** The release that a version belongs to, within which libtorch's C++ ABI holds: `2.13`. Null for what is no version. */
export function releaseOf(version: string): string | null {
  const release = parseRelease(version);
  return release && `${release.major}.${release.minor}`;
}

/** Orders versions by their numbers, the oldest first. */
export function compareVersions(left: string, right: string): number {
  const [one, other] = [parseRelease(left), parseRelease(right)];
  if (!one || !other) return Number(other === null) - Number(one === null);
  return one.major - other.major || one.minor - other.minor || one.patch - other.patch;
}

/** Any version of some releases. */
function requirement(releases: readonly string[]): VersionRequirement {
  const names = [...new Set(releases)].sort(compareVersions).map((release) => `${release}.x`);
  return {
    description: [names.slice(0, -1).join(', '), ...names.slice(-1)].filter(Boolean).join(' or '),
    accepts: (version) => releases.includes(releaseOf(version) ?? ''),
  };
}

/** What addons that were built against these versions run on. */
export function runtimeRequirement(builtAgainst: readonly string[]): VersionRequirement {
  return requirement(builtAgainst.map((version) => releaseOf(version) ?? version));
}

/** What the sources compile against. */
export function buildRequirement(): VersionRequirement {
  return requirement(SERVED_RELEASES);
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
