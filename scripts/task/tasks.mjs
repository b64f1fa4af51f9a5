import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { requireCompiler } from './compiler.mjs';
import { installDependencies } from './dependencies.mjs';
import { modules, provideLibtorch, provideVersion, verify } from './libtorch.mjs';
import { lint } from './lint.mjs';
import { withLock } from './lock.mjs';
import {
  anythingBuilt,
  buildBenchProgram,
  buildNative,
  builds,
  buildTestProgram,
  products,
  releaseBuild,
  versionBuild,
} from './native.mjs';
import { Failure, root, run } from './process.mjs';
import { runSanitized } from './sanitizers.mjs';
import { runTests } from './tests.mjs';
import { compileTypeScript } from './typescript.mjs';

/**
 * Makes everything that a task needs, as far as it isn't there. Two tasks at once wait for each other here.
 * @param version of libtorch to build against, fetched from PyPI; by default the libtorch that is found or fetched
 * @returns the libtorch, its build, and the folder of the binaries
 */
function setUp({ version, extraBuilds = [] } = {}) {
  return withLock(async () => {
    // Said before anything is downloaded.
    if (!anythingBuilt()) requireCompiler();
    await installDependencies();
    await compileTypeScript();
    const libtorch = version === undefined ? await provideLibtorch() : await provideVersion(version);
    const build = version === undefined ? releaseBuild(libtorch.version) : versionBuild(version);
    const binaries = await buildNative(build, libtorch);
    for (const each of extraBuilds) await buildNative(each, libtorch);
    return { libtorch, build, binaries };
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
    const { build } = await setUp({ extraBuilds: measured ? [builds.coverage] : [] });
    return runTests(args, measured ? { build: builds.coverage, measured } : { build });
  },

  /** The tests on another version of libtorch: `release 2.14.1`; what follows is for jest. */
  async release([version = '', ...args]) {
    const { libtorch, build } = await setUp({ version });
    console.log(`On libtorch ${libtorch.version} in ${libtorch.root}`);
    return runTests(args, { build, libtorch });
  },

  async bench(args) {
    const { libtorch } = await setUp();
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
    const { build } = await setUp();
    return lint(args, build);
  },

  /**
   * Puts the binaries of this platform where the package finds them without a build: for the libtorch that is found, or
   * for each version named.
   */
  async prebuild(versions) {
    for (const version of versions.length > 0 ? versions : [undefined]) {
      const { libtorch, binaries } = await setUp({ version });
      const { prebuiltDirectory } = modules('binaries');
      const { releaseOf } = modules('versions');
      const directory = prebuiltDirectory(releaseOf(libtorch.version));
      copyProducts(binaries, directory);
      await verify(libtorch, directory);
      console.log(`Wrote ${products.join(', ')} to ${directory}`);
    }
  },

  /** What binding.gyp runs: the binaries for node-gyp's output folder. */
  async gyp([directory]) {
    await withLock(async () => {
      await installDependencies();
      await compileTypeScript();
      copyProducts(await buildNative(builds.gyp, await provideLibtorch()), directory);
    });
  },
};

function copyProducts(from, to) {
  mkdirSync(to, { recursive: true });
  for (const name of products) copyFileSync(join(from, name), join(to, name));
}
