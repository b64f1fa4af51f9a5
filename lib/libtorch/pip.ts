import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { FetchContext, Flavour } from './fetching';
import { findPython } from './python';

/** What pip is to install. */
export interface Wheels {
  /** As pip takes them: `torch==2.13.0+cpu`. */
  readonly requirements: readonly string[];
  /** Whether what they depend on comes along. */
  readonly dependencies: boolean;
  /** An index to look in beside those that pip is set to. */
  readonly index?: string;
}

/**
 * The torch wheel of a flavour. Never a plain `torch` with its dependencies, which on Linux would bring gigabytes of CUDA
 * nobody asked for.
 */
export function torchWheel(version: string, flavour: Flavour): Wheels {
  // macOS has one build only, without a local version.
  if (process.platform === 'darwin') return { requirements: [`torch==${version}`], dependencies: false };
  return {
    requirements: [`torch==${version}+${flavour}`],
    // The CUDA wheel finds CUDA's libraries beside itself, where its dependencies put them.
    dependencies: flavour !== 'cpu',
    index: `https://download.pytorch.org/whl/${flavour}`,
  };
}

/** The arguments of Python that install wheels into a folder. */
export function pipArguments(site: string, { requirements, dependencies, index }: Wheels): string[] {
  return [
    ...['-m', 'pip', 'install', '--target', site, '--retries', '1', '--no-input', '--no-compile'],
    ...(dependencies ? [] : ['--no-deps']),
    ...(index ? ['--extra-index-url', index] : []),
    ...requirements,
  ];
}

/**
 * How long pip may look for what it is to install once a connection has failed: without a network it would try each index for
 * half a minute. As long as none has failed, the machine may only be busy, and it has four times that.
 */
const SEARCH_MS = 15_000;

/**
 * Installs wheels into `site` with the pip of `python3`.
 *
 * @param temporary a folder for what pip leaves behind
 * @returns null where it succeeded, else why not, in a sentence: what the network said comes before what pip makes of it
 */
export async function installWithPip(
  site: string,
  temporary: string,
  wheels: Wheels,
  { env, signal, onProgress }: FetchContext,
  searchMs = SEARCH_MS,
): Promise<string | null> {
  const python = findPython(env);
  if (!python) return 'there is no python3 on the PATH';
  const pip = spawnSync(python, ['-m', 'pip', '--version'], { env, encoding: 'utf8', windowsHide: true });
  if (pip.status !== 0) return `${python} has no pip`;

  // Interrupted, pip leaves its own temporary files behind: keep them where they are removed.
  const scratch = join(temporary, 'pip');
  mkdirSync(scratch, { recursive: true });
  const argument = pipArguments(site, wheels);
  const settings = { PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_USER: '0', PIP_REQUIRE_VIRTUALENV: '0' };
  return run(python, argument, { ...env, ...settings, TMPDIR: scratch }, signal, searchMs, (message) => {
    onProgress?.({ stage: 'pip', done: 0, total: null, message });
  });
}

/** Lines that pip begins with, before it has found anything. */
const SEARCHING = /^Looking in /;

/** What pip's warnings say of connections that could not be made: `Temporary failure in name resolution`. */
export function networkReason(errors: string): string | undefined {
  const [, thrown] = /after connection broken by '(.*)': \//.exec(errors) ?? [];
  return thrown
    ?.replace(/^\w+\(/, '')
    .replace(/<[^>]*>(?:: |, )?/g, '')
    .replace(/^['"]/, '')
    .replace(/['"]?\)$/, '');
}

function run(
  python: string,
  argument: string[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal | undefined,
  searchMs: number,
  onLine: (line: string) => void,
): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(python, argument, { env, stdio: ['ignore', 'pipe', 'pipe'], windowsHide: true });
    // Asked first, pip stops its own children. It may have been started with SIGINT ignored, as in a shell's background.
    let insisting: NodeJS.Timeout | undefined;
    const interrupt = (): void => {
      child.kill('SIGINT');
      insisting = setTimeout(() => child.kill('SIGKILL'), 2000);
    };
    signal?.addEventListener('abort', interrupt, { once: true });
    const start = performance.now();
    let errors = '';
    let answered = false;
    let gaveUp: number | undefined;
    const giveUpIfLate = (): void => {
      const ms = performance.now() - start;
      if (answered || gaveUp !== undefined) return;
      if (ms < (networkReason(errors) === undefined ? 4 * searchMs : searchMs)) return;
      gaveUp = ms;
      interrupt();
    };
    const searching = [searchMs, 4 * searchMs].map((ms) => setTimeout(giveUpIfLate, ms + 1));
    child.stdout.on('data', (chunk) => {
      for (const line of String(chunk).split('\n')) {
        if (!line.trim()) continue;
        answered ||= !SEARCHING.test(line);
        onLine(line.trim());
      }
    });
    child.stderr.on('data', (chunk) => {
      errors += chunk;
      giveUpIfLate();
    });
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(insisting);
      for (const timer of searching) clearTimeout(timer);
      signal?.removeEventListener('abort', interrupt);
      if (signal?.aborted) return reject(signal.reason);
      if (code === 0) return resolve(null);
      const network = networkReason(errors);
      if (gaveUp !== undefined) {
        return resolve(`${network ?? 'no package index answered'} (given up after ${(gaveUp / 1000).toFixed(1)} s)`);
      }
      const lines = errors.split('\n').filter((line) => line.startsWith('ERROR:'));
      const reason = lines.at(-1)?.slice('ERROR:'.length).trim() ?? `pip exited with ${code}`;
      return resolve(
        network === undefined ? reason : `${network}, so that ${reason[0]?.toLowerCase()}${reason.slice(1)}`,
      );
    });
  });
}
