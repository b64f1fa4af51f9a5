import { createRequire } from 'node:module';
import { Failure } from './process.mjs';
import { step } from './progress.mjs';

const require = createRequire(import.meta.url);

// Compiled from lib/libtorch: to be called after compileTypeScript only.
const modules = (name) => require(`../../dist/libtorch/${name}.js`);

/** Finds a libtorch to build against, or fetches one into the user's cache directory. */
export async function provideLibtorch() {
  const { locateLibtorch, searchLibtorch } = modules('locate');
  // What LIBTORCH names is taken or refused, nothing is fetched in its place.
  if (process.env.LIBTORCH) return locateLibtorch();
  return searchLibtorch().found ?? fetch();
}

async function fetch() {
  const { fetchLibtorch } = modules('fetch');
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(new Failure('Interrupted; nothing was left behind.', 130));
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  try {
    return await step('Fetching libtorch', (update) =>
      fetchLibtorch({
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

/** Loads libtorch and the addon of a folder in a child process, unless that was seen to work before. */
export async function verify(libtorch, directory) {
  const { binariesIn } = modules('binaries');
  const { verifyLibtorch } = modules('verify');
  const verdict = await step('Loading libtorch and the addon in a child process', () =>
    verifyLibtorch(libtorch, binariesIn(directory), { remembered: true }),
  );
  if (!verdict.ok) {
    throw new Failure(`The addon does not load on libtorch ${libtorch.version} at ${libtorch.root}: ${verdict.reason}`);
  }
}
