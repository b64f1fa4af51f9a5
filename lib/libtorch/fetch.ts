import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { TorchError } from '../core/errors';
import { reasonOf } from '../core/validate';
import { downloadArchive, unpackArchive } from './archive';
import { cacheDirectory } from './cache';
import type { FetchProgress, Flavour } from './fetching';
import { inspectLibtorch, type Libtorch, rootsInSite } from './locate';
import { PARTIAL, PartialDownload, rename } from './partial-download';
import { installWithPip, pipArguments, torchWheel } from './pip';
import { findPython } from './python';
import { PINNED_CUDA, PINNED_VERSION, parseRelease } from './versions';

export interface FetchOptions {
  /** Default: the process's environment. */
  env?: NodeJS.ProcessEnv;
  /** Fetch the CUDA build, of some gigabytes. Default false. */
  cuda?: boolean;
  /** Ends the fetch. Of what it had written, only a download that can be continued is kept. */
  signal?: AbortSignal;
  onProgress?: (progress: FetchProgress) => void;
  /** Called with what was fetched before it is put in place; a throw refuses it. */
  verify?: (libtorch: Libtorch) => Promise<void>;
  /** How long a server may take to answer. Default 10 s. */
  answerTimeoutMs?: number;
  /** How long a server that has answered may send nothing. Default 60 s. */
  idleTimeoutMs?: number;
}

/** The folder that a flavour is fetched into. */
function placeOf(flavour: Flavour, env: NodeJS.ProcessEnv): string {
  return join(cacheDirectory(env), `${PINNED_VERSION}+${flavour}`);
}

/** What `fetchLibtorch` would do, in the order in which it would try it. */
export interface FetchPlan {
  readonly version: string;
  readonly place: string;
  /** The command of pip; null where pip isn't asked. */
  readonly pip: readonly string[] | null;
  /** The address of the archive that is fetched where pip fails, or isn't asked. */
  readonly archive: string;
}

/** See `FetchPlan`. */
export function planFetch({ env = process.env, cuda = false }: Pick<FetchOptions, 'env' | 'cuda'>): FetchPlan {
  const flavour: Flavour = cuda ? PINNED_CUDA : 'cpu';
  const mirror = mirrorOf(env);
  const place = placeOf(flavour, env);
  const python = findPython(env);
  const pip = mirror || !python ? null : [python, ...pipArguments(place, torchWheel(PINNED_VERSION, flavour))];
  return { version: `${PINNED_VERSION}+${flavour}`, place, pip, archive: archiveUrl(flavour, mirror) };
}

/** The server that the archive comes from in the place of PyTorch's; an empty one is none. */
function mirrorOf(env: NodeJS.ProcessEnv): string | undefined {
  return env['LIBTORCH_ATTENTION_MIRROR'] || undefined;
}

const TEMPORARY = 'incomplete-';
const STALE_AFTER_MS = 24 * 60 * 60 * 1000;

/**
 * Fetches the pinned libtorch into the user's cache directory, and returns where it is; at once if it is there already.
 * With pip where `python3` has it (its configuration, mirrors and proxies apply), else the official archive. With
 * `LIBTORCH_ATTENTION_MIRROR` set, the archive comes from that address instead of PyTorch's, and pip is not asked;
 * `LIBTORCH_ATTENTION_SHA256` is then, or always, what the archive has to hash to.
 *
 * Safe to interrupt and to run twice at once: everything happens in a folder of its own, which is renamed when complete. A download
 * that was broken off is kept for a day, where the server can send the rest alone.
 *
 * @throws TorchError `ERR_LIBTORCH_NOT_FOUND` where it can't be fetched; the signal's reason where it was aborted.
 */
export async function fetchLibtorch(options: FetchOptions = {}): Promise<Libtorch> {
  const { env = process.env, cuda = false, signal, verify } = options;
  const flavour: Flavour = cuda ? PINNED_CUDA : 'cpu';
  const directory = cacheDirectory(env);
  const final = placeOf(flavour, env);
  const present = completeIn(final);
  if (present) return present;

  signal?.throwIfAborted();
  const temporary = temporaryIn(directory);
  const removeTemporary = (): void => rmSync(temporary, { recursive: true, force: true });
  // Also when the process is ended by process.exit() in the middle of it.
  process.once('exit', removeTemporary);
  try {
    const site = join(temporary, 'site');
    await fetchInto(site, temporary, flavour, options);
    const fetched = completeIn(site);
    if (!fetched) throw incomplete(site);
    const release = parseRelease(fetched.version);
    if (JSON.stringify(release) !== JSON.stringify(parseRelease(PINNED_VERSION))) {
      throw new TorchError(
        'ERR_LIBTORCH_VERSION',
        `Expected to fetch libtorch ${PINNED_VERSION} but received ${fetched.version}`,
      );
    }
    await verify?.(fetched);
    signal?.throwIfAborted();
    return moveIntoPlace(site, final, temporary);
  } finally {
    process.removeListener('exit', removeTemporary);
    removeTemporary();
  }
}

/** A new folder in the cache directory, for what is fetched until it is complete. */
function temporaryIn(directory: string): string {
  try {
    mkdirSync(directory, { recursive: true });
    removeStale(directory);
    return mkdtempSync(join(directory, `${TEMPORARY}${hostname()}-${process.pid}-`));
  } catch (cause) {
    throw new TorchError(
      'ERR_LIBTORCH_NOT_FOUND',
      `Expected a cache directory that can be written to keep libtorch in but received ${directory}: ${reasonOf(cause)}\n` +
        'Set XDG_CACHE_HOME to a folder that can be written, or LIBTORCH to one that holds a libtorch.',
      { cause },
    );
  }
}

async function fetchInto(site: string, temporary: string, flavour: Flavour, options: FetchOptions): Promise<void> {
  const { env = process.env, signal, onProgress } = options;
  const context = { env, ...(signal ? { signal } : {}), ...(onProgress ? { onProgress } : {}) };
  const mirror = mirrorOf(env);
  let pipFailure = 'LIBTORCH_ATTENTION_MIRROR is set, which pip does not use';
  if (!mirror) {
    const outcome = await installWithPip(site, temporary, torchWheel(PINNED_VERSION, flavour), context);
    if (outcome === null) return;
    pipFailure = outcome;
    rmSync(site, { recursive: true, force: true });
  }
  const url = archiveUrl(flavour, mirror);
  const download = new PartialDownload(url, temporary, cacheDirectory(env));
  try {
    const { answerTimeoutMs = 10_000, idleTimeoutMs = 60_000 } = options;
    await downloadArchive(url, download, { ...context, answerTimeoutMs, idleTimeoutMs }).catch((error: unknown) => {
      download.keep();
      throw error;
    });
    await unpackArchive(download.path, site, context);
  } catch (cause) {
    signal?.throwIfAborted();
    throw new TorchError(
      'ERR_LIBTORCH_NOT_FOUND',
      `Expected to fetch libtorch ${PINNED_VERSION}+${flavour} but received:\n  - from pip: ${pipFailure}\n` +
        `  - from ${url}: ${reasonOf(cause)}\n` +
        'Where this machine has no way to these servers, set LIBTORCH_ATTENTION_MIRROR to a server that has the same path, or ' +
        'unpack that archive from another machine and set LIBTORCH to its folder libtorch. With a package index of your own: ' +
        `"python3 -m pip install --no-deps ${torchWheel(PINNED_VERSION, flavour).requirements.join(' ')}".`,
      { cause },
    );
  }
}

/** Where PyTorch keeps the official archive of this platform. */
export function archiveUrl(flavour: Flavour, mirror = 'https://download.pytorch.org'): string {
  const local = `${PINNED_VERSION}%2B${flavour}`;
  const names: Partial<Record<string, string>> = {
    'linux-x64': `libtorch-shared-with-deps-${local}.zip`,
    'win32-x64': `libtorch-win-shared-with-deps-${local}.zip`,
    'darwin-arm64': `libtorch-macos-arm64-${PINNED_VERSION}.zip`,
  };
  const platform = `${process.platform}-${process.arch}`;
  const name = names[platform];
  if (!name) {
    throw new TorchError(
      'ERR_LIBTORCH_NOT_FOUND',
      `PyTorch offers no libtorch archive for ${platform}: install torch ${PINNED_VERSION} with pip, or set LIBTORCH.`,
    );
  }
  return `${mirror.replace(/\/+$/, '')}/libtorch/${flavour}/${name}`;
}

/** The libtorch of a folder as pip or the archive lays it out; null where it is missing or incomplete. */
function completeIn(site: string): Libtorch | null {
  for (const root of rootsInSite(site)) {
    const inspected = inspectLibtorch(root, 'cache');
    if ('libraries' in inspected) return inspected;
  }
  return null;
}

function incomplete(site: string): TorchError {
  const root = rootsInSite(site)[0];
  const inspected = root ? inspectLibtorch(root, 'cache') : undefined;
  const reason = inspected && 'reason' in inspected ? inspected.reason : 'there is no folder torch or libtorch in it';
  return new TorchError('ERR_LIBTORCH_NOT_FOUND', `Expected a complete libtorch in what was fetched, but ${reason}`);
}

/** Renames the finished folder. Where another process was faster, its result is taken. */
function moveIntoPlace(site: string, final: string, temporary: string): Libtorch {
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const present = completeIn(final);
    if (present) return present;
    try {
      // What is in the way here is incomplete: a copy that something else damaged.
      renameSync(final, join(temporary, `damaged-${attempt}`));
    } catch {
      // Nothing is in the way.
    }
    try {
      renameSync(site, final);
    } catch (error) {
      if (attempt === 2) throw error;
    }
  }
  const placed = completeIn(final);
  if (placed) return placed;
  throw incomplete(final);
}

/** Removes what earlier fetches left behind: those of processes that were killed, and anything a day old. */
function removeStale(directory: string): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (name.startsWith(PARTIAL) && ageOf(path) > STALE_AFTER_MS) rmSync(path, { recursive: true, force: true });
    if (!name.startsWith(TEMPORARY)) continue;
    const own = `${TEMPORARY}${hostname()}-`;
    const process_ = name.startsWith(own) ? Number.parseInt(name.slice(own.length), 10) : Number.NaN;
    const ended = Number.isInteger(process_) && process_ !== process.pid && !isRunning(process_);
    if (!ended && ageOf(path) <= STALE_AFTER_MS) continue;
    // The download of a process that was killed can be continued like any other.
    for (const each of ended ? readdirSync(path) : []) {
      if (each.startsWith(PARTIAL)) rename(join(path, each), join(directory, each));
    }
    rmSync(path, { recursive: true, force: true });
  }
}

function ageOf(path: string): number {
  return Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
