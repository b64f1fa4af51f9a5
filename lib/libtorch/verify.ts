import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import type { Binaries } from './binaries';
import { readRemembered, remember } from './cache';
import type { Libtorch } from './locate';
import { bypassesVersionCheck, runtimeRequirement } from './versions';

/** What a child process said about a libtorch. `reason` is empty where it loaded. */
export interface Verdict {
  readonly ok: boolean;
  readonly reason: string;
  /** Whether the addon was loaded too, not only libtorch: it is of the release that the addon was built against. */
  readonly addon: boolean;
  /** Why the CUDA part of a CUDA build can't be opened; null where it can, where there is none, and where `remembered`. */
  readonly withoutCuda: string | null;
}

const REMEMBERED = 'verified.json';
const TIMEOUT_MS = 120_000;

// What the child runs. Its answer is the last line, libtorch may print before it.
const SCRIPT = `
const [loader, libraries, cudaLibraries, addon] = JSON.parse(process.argv[1]);
require(loader).open(libraries);
let withoutCuda = null;
try {
  require(loader).open(cudaLibraries);
} catch (error) {
  withoutCuda = error.message;
}
if (addon) require(addon);
console.log('\\n' + JSON.stringify({ loaded: true, withoutCuda }));
`;

/**
 * Loads libtorch, and the addon where it was built against that release, in a child process: a broken library can end a
 * process, and it should not be the caller's.
 *
 * @param options.remembered A success is remembered as long as no file changes; with true, it isn't tried again.
 */
export async function verifyLibtorch(
  libtorch: Libtorch,
  binaries: Binaries,
  options: { env?: NodeJS.ProcessEnv; remembered?: boolean; signal?: AbortSignal } = {},
): Promise<Verdict> {
  const { env = process.env, remembered = false, signal } = options;
  const addon = bypassesVersionCheck(env) || runtimeRequirement([binaries.info.libtorch]).accepts(libtorch.version);
  const key = `${libtorch.root} ${binaries.directory}`;
  const { libraries, cudaLibraries } = libtorch;
  const files = [...libraries, ...cudaLibraries, binaries.loader, ...(addon ? [binaries.addon] : [])];
  const stamp = files.map(fileStamp).join(' ');
  if (remembered && readRemembered<string>(REMEMBERED, env)[key] === stamp) {
    return { ok: true, reason: '', addon, withoutCuda: null };
  }
  const what = [binaries.loader, libraries, cudaLibraries, addon ? binaries.addon : null];
  const outcome = await loadInChild(what, env, signal);
  if (outcome.reason === '') remember(REMEMBERED, key, stamp, env);
  return { ok: outcome.reason === '', addon, ...outcome };
}

function fileStamp(path: string): string {
  const { mtimeMs, size } = statSync(path);
  return `${path}:${mtimeMs}:${size}`;
}

/** Resolves to an empty reason, or to what went wrong. */
function loadInChild(
  what: unknown,
  env: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<Pick<Verdict, 'reason' | 'withoutCuda'>> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['-e', SCRIPT, JSON.stringify(what)], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
      windowsHide: true,
      ...(signal ? { signal } : {}),
    });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (errors += chunk));
    child.on('error', reject);
    child.on('close', (code, killedBy) => {
      const answer = code === 0 ? output.trimEnd().split('\n').at(-1) : undefined;
      if (answer?.startsWith('{"loaded":true')) {
        const { withoutCuda } = JSON.parse(answer) as { withoutCuda: string | null };
        return resolve({ reason: '', withoutCuda });
      }
      const message = /^(?:\w*Error|Uncaught.*?): (.*)$/m.exec(errors)?.[1] ?? errors.trim().split('\n').at(-1);
      const end = killedBy ? `the process was ended by ${killedBy}` : `the process exited with ${code}`;
      return resolve({ reason: message ? `${message} (${end})` : end, withoutCuda: null });
    });
  });
}
