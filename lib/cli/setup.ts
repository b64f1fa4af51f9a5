import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { TorchError } from '../core/errors';
import { binariesFor, findBinaries, requirementOf } from '../libtorch/binaries';
import { fetchLibtorch, planFetch } from '../libtorch/fetch';
import type { FetchProgress } from '../libtorch/fetching';
import { type Libtorch, locateLibtorch, searchLibtorch } from '../libtorch/locate';
import { verifyLibtorch } from '../libtorch/verify';

/** Adds `setup [--cuda]`: finds libtorch or fetches it, and loads it once to see that it works. */
export function registerSetup(program: Command): void {
  program
    .command('setup')
    .description('find libtorch on this machine, or fetch it into the user’s cache directory')
    .option('--cuda', 'have a libtorch with CUDA (fetches some gigabytes where there is none)')
    .option('--print', 'say what would be done, and do nothing')
    .addHelpText(
      'after',
      `
Looks where LIBTORCH points, then for the torch that python3 can import (unless LIBTORCH_ATTENTION_SKIP_PYTHON=1), then in the
cache, and fetches it there where none will do.

Examples:
  libtorch-attention setup
  libtorch-attention setup --cuda
  libtorch-attention setup --print
  LIBTORCH_ATTENTION_SKIP_PYTHON=1 libtorch-attention setup`,
    )
    .action(async (options: { cuda?: boolean; print?: boolean }) => {
      if (options.print) {
        process.stdout.write(`${describeSetUp({ cuda: options.cuda ?? false })}\n`);
        return;
      }
      const interruption = new AbortController();
      const interrupt = (): void => interruption.abort(new Error('interrupted'));
      process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
      try {
        const libtorch = await setUp({ cuda: options.cuda ?? false, signal: interruption.signal });
        process.stdout.write(`${describeLibtorch(libtorch)}\n`);
      } catch (error) {
        if (!interruption.signal.aborted) throw error;
        process.stderr.write('Interrupted; nothing that is incomplete is used.\n');
        process.exitCode = 130;
      } finally {
        process.removeListener('SIGINT', interrupt).removeListener('SIGTERM', interrupt);
      }
    });
}

export interface SetUpOptions {
  /** Accept only a libtorch with CUDA. */
  cuda: boolean;
  signal?: AbortSignal;
  /** Default: the process's environment. */
  env?: NodeJS.ProcessEnv;
}

/**
 * Finds a libtorch that will do, or fetches one. What is returned was loaded in a child process, where this package's
 * addon is built.
 */
export async function setUp({ cuda, signal, env = process.env }: SetUpOptions): Promise<Libtorch> {
  const available = findBinaries();
  const requirement = requirementOf(available);
  const verify = async (libtorch: Libtorch): Promise<void> => {
    const binaries = binariesFor(available, libtorch.version);
    if (!binaries) return;
    const verdict = await verifyLibtorch(libtorch, binaries, { env, ...(signal ? { signal } : {}) });
    const reason = verdict.ok && cuda ? (verdict.withoutCuda ?? '') : verdict.reason;
    if (reason === '') return;
    throw new TorchError(
      'ERR_ADDON_LOAD',
      `Expected to load libtorch ${libtorch.version} at ${libtorch.root} but received: ${reason}`,
    );
  };

  // A folder that was named is taken or refused, nothing is fetched in its place.
  const { found } = env['LIBTORCH']
    ? { found: locateLibtorch({ env, requirement }) }
    : searchLibtorch({ env, requirement });
  if (found && (!cuda || found.cuda !== null)) {
    await verify(found);
    return found;
  }
  const bar = progressBar();
  let fetched: Libtorch;
  try {
    fetched = await fetchLibtorch({ env, cuda, verify, onProgress: bar.show, ...(signal ? { signal } : {}) });
  } finally {
    bar.stop();
  }
  const used = locateLibtorch({ env, requirement });
  if (used.root !== fetched.root) {
    process.stderr.write(
      `Fetched ${fetched.root}, but ${used.root} (found by ${used.source}) comes before it: set LIBTORCH=${fetched.root}` +
        `${used.source === 'python' ? ' or LIBTORCH_ATTENTION_SKIP_PYTHON=1' : ''} to use what was fetched.\n`,
    );
  }
  return fetched;
}

/** What `setUp` would do, for people. */
export function describeSetUp({ cuda, env = process.env }: Omit<SetUpOptions, 'signal'>): string {
  const requirement = requirementOf(findBinaries());
  const { found, rejected } = searchLibtorch({ env, requirement });
  if (found && (!cuda || found.cuda !== null)) return `Takes ${describeLibtorch(found)}. Nothing is fetched.`;
  const looked = rejected.map(({ place, reason }) => `  - ${place}: ${reason}`);
  if (found) looked.push(`  - ${found.root}: it has no CUDA`);
  if (env['LIBTORCH'])
    return `Fails, since LIBTORCH names what will not do, and nothing is fetched in its place:\n${looked.join('\n')}`;
  const { version, place, pip, archive } = planFetch({ env, cuda });
  return [
    `Fetches libtorch ${version} (${cuda ? 'some gigabytes' : 'about 200 MB'}) into ${place}, since none was found that will do:`,
    ...looked,
    ...(pip
      ? ['With pip, whose settings, mirrors and proxies apply:', `  ${pip.join(' ')}`, 'Where that fails, from:']
      : ['From:']),
    `  ${archive}`,
    'It is loaded once in a child process before it is put in place.',
  ].join('\n');
}

/** One line about a libtorch, for people. */
export function describeLibtorch({ version, cuda, root, source }: Libtorch): string {
  const places = { LIBTORCH: 'the environment variable LIBTORCH', python: "python3's torch", cache: 'the cache' };
  return `libtorch ${version} (${cuda === null ? 'CPU' : `CUDA ${cuda}`}) at ${root}, from ${places[source]}`;
}

/** Shows progress: a bar where a size is known, pip's own words where pip is at work. */
function progressBar(): { show: (progress: FetchProgress) => void; stop: () => void } {
  const bar = new SingleBar({
    format: '{stage} [{bar}] {percentage} % | {done} of {size} MB | {eta_formatted} left',
    stream: process.stderr,
    noTTYOutput: true,
    notTTYSchedule: 10_000,
    hideCursor: true,
    clearOnComplete: false,
  });
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  let stage: FetchProgress['stage'] | undefined;
  const stop = (): void => {
    if (stage === 'download' || stage === 'unpack') bar.stop();
    stage = undefined;
  };
  const show = ({ stage: next, done, total, message }: FetchProgress): void => {
    if (next === 'pip') {
      stage = next;
      process.stderr.write(`pip: ${message}\n`);
      return;
    }
    const payload = { stage: next, done: megabytes(done), size: total === null ? '?' : megabytes(total) };
    if (stage !== next) {
      stop();
      stage = next;
      bar.start(total ?? done, done, payload);
    } else {
      bar.update(done, payload);
    }
  };
  return { show, stop };
}
