import { spawn, spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import type { Binaries } from './binaries';
import { canRemember, readRemembered, remember } from './cache';
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

/** What is loaded to try a libtorch, and where a success is remembered. */
interface Trial {
  /** Whether the addon is loaded, too. */
  readonly addon: boolean;
  readonly key: string;
  /** Changes with every file that is loaded. */
  readonly stamp: string;
  /** The arguments of Node that load it all. */
  readonly command: readonly string[];
}

function trialOf(libtorch: Libtorch, binaries: Binaries, env: NodeJS.ProcessEnv): Trial {
  const addon = bypassesVersionCheck(env) || runtimeRequirement([binaries.info.libtorch]).accepts(libtorch.version);
  const { libraries, cudaLibraries } = libtorch;
  const files = [...libraries, ...cudaLibraries, binaries.loader, ...(addon ? [binaries.addon] : [])];
  const what = [binaries.loader, libraries, cudaLibraries, addon ? binaries.addon : null];
  return {
    addon,
    key: `${libtorch.root} ${binaries.directory}`,
    stamp: files.map(fileStamp).join(' '),
    command: ['-e', SCRIPT, JSON.stringify(what)],
  };
}

function fileStamp(path: string): string {
  const { mtimeMs, size, ino } = statSync(path);
  return `${path}:${mtimeMs}:${size}:${ino}`;
}

function isRemembered({ key, stamp }: Trial, env: NodeJS.ProcessEnv): boolean {
  return readRemembered<string>(REMEMBERED, env)[key] === stamp;
}

/** A child process of those that try a libtorch is told so, and tries none itself. */
const TRYING = 'LIBTORCH_ATTENTION_TRYING';

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
  const trial = trialOf(libtorch, binaries, env);
  const { addon, key, stamp } = trial;
  if (remembered && isRemembered(trial, env)) return { ok: true, reason: '', addon, withoutCuda: null };
  const outcome = await loadInChild(trial.command, env, signal);
  if (outcome.reason === '') remember(REMEMBERED, key, stamp, env);
  return { ok: outcome.reason === '', addon, ...outcome };
}

/**
 * The same for those who are about to load it themselves, once for these files: what ended the process; null where nothing
 * did (an error they will see themselves), where these files are known to load, and where nothing can be remembered (it would
 * be tried in each process) or Node isn't what runs this process.
 */
export function firstTrial(libtorch: Libtorch, binaries: Binaries, env: NodeJS.ProcessEnv): string | null {
  if (env[TRYING] !== undefined || !/^node(js)?(\.exe)?$/.test(basename(process.execPath))) return null;
  const trial = trialOf(libtorch, binaries, env);
  if (isRemembered(trial, env) || !canRemember(env)) return null;
  const child = spawnSync(process.execPath, trial.command, {
    env: { ...env, [TRYING]: '1' },
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
    windowsHide: true,
  });
  const { reason } = outcomeOf(child.status, child.signal, child.stdout, child.stderr);
  if (child.signal !== null) return reason;
  if (reason === '') remember(REMEMBERED, trial.key, trial.stamp, env);
  return null;
}

type Outcome = Pick<Verdict, 'reason' | 'withoutCuda'>;

/** What a child that has ended found: an empty reason, or what went wrong. */
function outcomeOf(code: number | null, killedBy: string | null, output: string, errors: string): Outcome {
  const answer = code === 0 ? output.trimEnd().split('\n').at(-1) : undefined;
  if (answer?.startsWith('{"loaded":true')) {
    const { withoutCuda } = JSON.parse(answer) as { withoutCuda: string | null };
    return { reason: '', withoutCuda };
  }
  const message = /^(?:\w*Error|Uncaught.*?): (.*)$/m.exec(errors)?.[1] ?? errors.trim().split('\n').at(-1);
  const end = killedBy ? `the process was ended by ${killedBy}` : `the process exited with ${code}`;
  return { reason: message ? `${message} (${end})` : end, withoutCuda: null };
}

const OPERATORS_SCRIPT = `
const [loader, libraries, cudaLibraries, addon, operators] = JSON.parse(process.argv[1]);
require(loader).open(libraries);
try {
  require(loader).open(cudaLibraries);
} catch {
}
for (const path of operators) require(addon).loadOperators(path);
console.log('\\n' + JSON.stringify({ loaded: true, withoutCuda: null }));
`;

/**
 * Loads libraries of operators in a child process: what one throws while it registers its operators ends the process.
 *
 * @returns What went wrong; empty where nothing did.
 */
export function verifyOperators(libtorch: Libtorch, binaries: Binaries, operators: readonly string[]): string {
  const what = [binaries.loader, libtorch.libraries, libtorch.cudaLibraries, binaries.addon, operators];
  const { status, signal, stdout, stderr, error } = spawnSync(
    process.execPath,
    ['-e', OPERATORS_SCRIPT, JSON.stringify(what)],
    { encoding: 'utf8', timeout: TIMEOUT_MS, killSignal: 'SIGKILL', windowsHide: true },
  );
  return error ? error.message : outcomeOf(status, signal, stdout, stderr).reason;
}

function loadInChild(command: readonly string[], env: NodeJS.ProcessEnv, signal?: AbortSignal): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, command, {
      env: { ...env, [TRYING]: '1' },
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
    child.on('close', (code, killedBy) => resolve(outcomeOf(code, killedBy, output, errors)));
  });
}
