import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { requireCompiler } from './compiler.mjs';
import { installDependencies } from './dependencies.mjs';
import { provideLibtorch, verify } from './libtorch.mjs';
import { lint } from './lint.mjs';
import { withLock } from './lock.mjs';
import { buildBenchProgram, buildNative, builds, buildTestProgram, products } from './native.mjs';
import { Failure, root, run } from './process.mjs';
import { runSanitized } from './sanitizers.mjs';
import { runTests } from './tests.mjs';
import { compileTypeScript } from './typescript.mjs';

/** Makes everything that a task needs, as far as it isn't there. Two tasks at once wait for each other here. */
function setUp({ extraBuilds = [] } = {}) {
  return withLock(async () => {
    // Said before anything is downloaded.
    if (!existsSync(join(builds.release.directory, 'Release', 'attention.node'))) requireCompiler();
    await installDependencies();
    await compileTypeScript();
    const libtorch = await buildNative();
    for (const build of extraBuilds) await buildNative(build);
    return libtorch;
  });
}

/** Runs one of the project's scripts with this Node. */
function script(path, args) {
  if (!existsSync(join(root, path))) throw new Failure(`Expected the script ${path}, but it is missing.`);
  return run(process.execPath, [path, ...args]);
}

/** Runs the C++ tests built with a sanitizer. */
async function sanitized(name) {
  const program = await withLock(async () => {
    await installDependencies();
    await compileTypeScript();
    return buildTestProgram(builds[name], await provideLibtorch());
  });
  return runSanitized(name, program);
}

/** The tasks by name. Each gets the arguments after its name, and resolves to an exit code. */
export const tasks = {
  async build() {
    await setUp();
  },

  async demo(args) {
    await setUp();
    return script('examples/demo.mjs', args);
  },

  async test(args) {
    // Counters for the C++ lines need a second build, which is worth its time where nobody waits.
    const measured = Boolean(process.env.CI) && args.length === 0;
    await setUp({ extraBuilds: measured ? [builds.coverage] : [] });
    return runTests(args, measured ? builds.coverage : builds.release);
  },

  async bench(args) {
    const libtorch = await setUp();
    await withLock(() => buildBenchProgram(libtorch));
    return script('bench/main.mjs', args);
  },

  /** Attacks the package with broken files and calls; --help says how. */
  async fuzz(args) {
    await setUp();
    return script('test/fuzz/main.mjs', args);
  },

  /** Looks whether anything grows; --help says how. */
  async leaks(args) {
    await setUp();
    return script('test/leaks/main.mjs', args);
  },

  /** What takes longer than the tests may, all of it even where a part fails. */
  async long() {
    const failed = [];
    for (const name of ['fuzz', 'leaks', 'asan', 'tsan']) {
      console.log(`\n== ${name}`);
      if ((await tasks[name]([])) !== 0) failed.push(name);
    }
    console.log(failed.length > 0 ? `\nFailed: ${failed.join(', ')}` : '\nAll passed');
    return failed.length > 0 ? 1 : 0;
  },

  /** The C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer. */
  asan: () => sanitized('asan'),

  /** The C++ tests that use threads under ThreadSanitizer. */
  tsan: () => sanitized('tsan'),

  async lint(args) {
    await setUp();
    return lint(args);
  },

  /** Puts the binaries of this platform where the package finds them without a build. */
  async prebuild() {
    const libtorch = await setUp();
    const directory = join(root, 'prebuilds', `${process.platform}-${process.arch}`);
    copyProducts(join(builds.release.directory, 'Release'), directory);
    await verify(libtorch, directory);
    console.log(`Wrote ${products.join(', ')} to ${directory}`);
  },

  /** What binding.gyp runs: the binaries for node-gyp's output folder. */
  async gyp([directory]) {
    await withLock(async () => {
      await installDependencies();
      await compileTypeScript();
      await buildNative(builds.gyp);
    });
    copyProducts(join(builds.gyp.directory, 'Release'), directory);
  },
};

function copyProducts(from, to) {
  mkdirSync(to, { recursive: true });
  for (const name of products) copyFileSync(join(from, name), join(to, name));
}
