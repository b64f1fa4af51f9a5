import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, sep } from 'node:path';
import { cache, Failure, root } from './process.mjs';
import { step } from './progress.mjs';

const require = createRequire(import.meta.url);

/** A module compiled from lib/libtorch. */
export function modules(name) {
  if (!existsSync(join(root, 'dist'))) throw new Failure('Expected the folder dist: "npm run build" makes it.');
  return require(`../../dist/libtorch/${name}.js`);
}

/** Finds a libtorch to build against, or fetches one into the user's cache directory. */
export async function provideLibtorch() {
  const { locateLibtorch, searchLibtorch } = modules('locate');
  // What LIBTORCH names is taken or refused, nothing is fetched in its place.
  if (process.env.LIBTORCH) return locateLibtorch();
  return searchLibtorch().found ?? fetch();
}

function fetch() {
  const { fetchLibtorch } = modules('fetch');
  return fetching('Fetching libtorch', fetchLibtorch);
}

/**
 * A step that fetches something: its progress is shown, and it can be interrupted.
 * @param work receives `signal` and `onProgress`
 */
async function fetching(title, work) {
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(new Failure('Interrupted; nothing that is incomplete is used.', 130));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    return await step(title, (update) =>
      work({
        signal: interruption.signal,
        onProgress({ stage, done, total, message }) {
          const part = total ? `${Math.floor((100 * done) / total)} % of ${(total / 1e6).toFixed(0)} MB` : '';
          update(stage === 'pip' ? `pip: ${message.slice(0, 60)}` : `${stage} ${part}`.trim());
        },
      }),
    );
  } finally {
    process.removeListener('SIGINT', interrupt).removeListener('SIGTERM', interrupt);
  }
}

/**
 * The libtorch of a version that is served, out of PyPI's torch wheel. Kept in .cache/libtorch, beside what is found
 * otherwise. On Linux that wheel is the CUDA build: it comes without CUDA's libraries, which are gigabytes, but for the
 * two that its CPU part asks for.
 */
export async function provideVersion(version) {
  const { parseRelease, releaseOf, SERVED_RELEASES } = modules('versions');
  const { inspectLibtorch } = modules('locate');
  if (!/^\d+\.\d+\.\d+$/.test(version ?? '') || !SERVED_RELEASES.includes(releaseOf(version))) {
    const example = `${SERVED_RELEASES.at(-1)}.0`;
    throw new Failure(
      `Expected a version of libtorch's releases ${SERVED_RELEASES.join(', ')}, as "${example}", but received ${version ?? 'nothing'}.`,
      2,
    );
  }
  const inspect = (site) => inspectLibtorch(join(site, 'torch'), 'LIBTORCH');
  const final = join(cache, 'libtorch', version);
  if ('libraries' in inspect(final)) return inspect(final);
  mkdirSync(dirname(final), { recursive: true });
  const temporary = mkdtempSync(`${final}-incomplete-`);
  try {
    const site = join(temporary, 'site');
    await fetching(`Fetching torch ${version} from PyPI`, async (context) => {
      const { installWithPip } = modules('pip');
      const install = async (requirements) => {
        const wheels = { requirements, dependencies: false };
        const reason = await installWithPip(site, temporary, wheels, { env: process.env, ...context });
        if (reason !== null) throw new Failure(`Expected pip to install ${requirements.join(' and ')}, but: ${reason}`);
      };
      await install([`torch==${version}`]);
      const { cuda } = inspect(site);
      if (cuda) await install(['nvidia-cuda-runtime', 'nvidia-cuda-cupti'].map((name) => `${name}==${cuda}.*`));
    });
    const { reason, version: received } = inspect(site);
    if (reason) throw new Failure(`Expected a complete libtorch in torch ${version}'s wheel, but ${reason}.`);
    if (JSON.stringify(parseRelease(received)) !== JSON.stringify(parseRelease(version))) {
      throw new Failure(`Expected torch ${version} but received ${received}.`);
    }
    rmSync(final, { recursive: true, force: true });
    renameSync(site, final);
    return inspect(final);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The version that was fetched from PyPI, if this libtorch was. */
export function fetchedVersion({ root: folder }) {
  const [version, ...more] = relative(join(cache, 'libtorch'), folder).split(sep);
  return /^\d/.test(version) && more.length > 0 ? version : undefined;
}

/** Loads libtorch and compiled files in a child process, unless that was seen to work before. */
export async function verify(libtorch, binaries) {
  const { verifyLibtorch } = modules('verify');
  const verdict = await step('Loading libtorch and the addon in a child process', () =>
    verifyLibtorch(libtorch, binaries, { remembered: true }),
  );
  if (!verdict.ok) {
    throw new Failure(`The addon does not load on libtorch ${libtorch.version} at ${libtorch.root}: ${verdict.reason}`);
  }
}
