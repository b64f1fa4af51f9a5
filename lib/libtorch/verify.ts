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
}

const REMEMBERED = 'verified.json';
const TIMEOUT_MS = 120_000;

// What the child runs. Its answer is the last line, libtorch may print before it.
const SCRIPT = `
const [loader, libraries, addon] = JSON.parse(process.argv[1]);
require(loader).open(libraries);
if (addon) require(addon);
console.log('\\nloaded');
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
  const addon = bypassesVersionCheck(env) || runtimeRequirement(binaries.info.libtorch).accepts(libtorch.version);
  const key = `${libtorch.root} ${binaries.directory}`;
  const stamp = [...libtorch.libraries, binaries.loader, ...(addon ? [binaries.addon] : [])].map(fileStamp).join(' ');
  if (remembered && readRemembered<string>(REMEMBERED, env)[key] === stamp) return { ok: true, reason: '', addon };

  const reason = await loadInChild([binaries.loader, libtorch.libraries, addon ? binaries.addon : null], env, signal);
  if (reason === '') remember(REMEMBERED, key, stamp, env);
  return { ok: reason === '', reason, addon };
}

function fileStamp(path: string): string {
  const { mtimeMs, size } = statSync(path);
  return `${path}:${mtimeMs}:${size}`;
}

/** Resolves to an empty string, or to what went wrong. */
function loadInChild(what: unknown, env: NodeJS.ProcessEnv, signal?: AbortSignal): Promise<string> {
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
      if (code === 0 && output.trimEnd().endsWith('loaded')) return resolve('');
      const message = /^(?:\w*Error|Uncaught.*?): (.*)$/m.exec(errors)?.[1] ?? errors.trim().split('\n').at(-1);
      const end = killedBy ? `the process was ended by ${killedBy}` : `the process exited with ${code}`;
      return resolve(message ? `${message} (${end})` : end);
    });
  });
}
