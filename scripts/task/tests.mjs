import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { programOf } from './native.mjs';
import { cache, Failure, packageScript, root, run } from './process.mjs';
import { pythonTools } from './python-tools.mjs';

/** Runs the C++ test program of a build; with words, the tests that have one in their name or their file's. */
export async function runNativeTests(build, words = []) {
  const program = programOf(build, 'native_tests');
  if (!existsSync(program)) throw new Failure(`Expected the C++ test program ${program}: "npm run build" makes it.`);
  return run(program, words);
}

/** Runs both kinds of tests, all of the second even where the first fail, with these variables beside the environment. */
export async function runTests(build, jestArgs, variables) {
  const native = await runNativeTests(build);
  const env = { ...process.env, LIBTORCH_ATTENTION_BINARIES: join(build.directory, 'Release'), ...variables };
  const jest = await run(process.execPath, [packageScript('jest', 'bin/jest.js'), ...jestArgs], { env });
  return native || jest;
}

/** Runs all tests on a build that counts the lines that are run, and says which were, of TypeScript and of C++. */
export async function measureCoverage(build) {
  const results = join(cache, 'jest.json');
  // A worker that jest ends by force writes no counts.
  const code = await runTests(build, ['--coverage', '--runInBand', '--json', `--outputFile=${results}`]);
  const tool = await pythonTools();
  // Of this run alone: what was counted is removed.
  const args = ['--root', root, '--filter', 'native/', '--gcov-delete', '--gcov-ignore-errors=all', build.directory];
  return code || run(tool('gcovr'), args);
}
