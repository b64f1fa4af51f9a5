import { join, resolve } from 'node:path';
import { requireCompiler } from './compiler.mjs';
import { clangFormat, clangTidy } from './cpp-checks.mjs';
import { installDependencies } from './dependencies.mjs';
import { checkReference, makeReference } from './docs.mjs';
import { fetchedVersion, modules, provideLibtorch, provideVersion } from './libtorch.mjs';
import { withLock } from './lock.mjs';
import {
  anythingBuilt,
  buildNative,
  buildProgram,
  builds,
  firstBuildNotice,
  releaseBuild,
  versionBuild,
} from './native.mjs';
import { copyProducts, writePackages } from './package.mjs';
import { Failure, root, run } from './process.mjs';
import { runSanitized } from './sanitizers.mjs';
import { measureCoverage, runNativeTests, runTests } from './tests.mjs';
import { checkTypes, compileTypeScript } from './typescript.mjs';

/**
 * Makes everything that a build needs, as far as it isn't there.
 * @param version of libtorch to build against, fetched from PyPI; by default the libtorch that is found or fetched
 * @returns the libtorch
 */
async function prepare(version) {
  // Said before anything is downloaded.
  if (!anythingBuilt()) {
    requireCompiler();
    console.error(firstBuildNotice());
  }
  await installDependencies();
  await compileTypeScript();
  return version === undefined ? await provideLibtorch() : await provideVersion(version);
}

/** The build whose binaries are packed for a libtorch: of one that was fetched for a version, that version's. */
function buildFor(libtorch) {
  const version = fetchedVersion(libtorch);
  return version === undefined ? releaseBuild(libtorch.version) : versionBuild(version);
}

/**
 * Makes everything that a task needs, as far as it isn't there. Two tasks at once wait for each other here.
 * @returns the libtorch, its build, and the folder of the binaries
 */
function setUp({ version, extraBuilds = [] } = {}) {
  return withLock(async () => {
    const libtorch = await prepare(version);
    const build = version === undefined ? releaseBuild(libtorch.version) : versionBuild(version);
    const binaries = await buildNative(build, libtorch);
    for (const each of extraBuilds) await buildNative(each, libtorch);
    return { libtorch, build, binaries };
  });
}

/** Runs the C++ tests built with a sanitizer. */
async function sanitized(name) {
  const program = await withLock(async () => {
    await installDependencies();
    await compileTypeScript();
    return buildProgram(builds[name], 'native_tests', await provideLibtorch());
  });
  return runSanitized(name, program);
}

/** The build for the libtorch that is found. */
function currentBuild() {
  return releaseBuild(modules('locate').locateLibtorch().version);
}

/** The tasks by name. Each gets the arguments after its name, and resolves to an exit code. */
export const tasks = {
  /** All that the package needs to run in this checkout. */
  async build() {
    await setUp();
  },

  /** TypeScript alone. */
  async typescript() {
    await withLock(async () => {
      await installDependencies();
      await compileTypeScript();
    });
  },

  /** The API reference of docs/api; with `--check` it is only compared to what the docstrings make. */
  async docs([flag]) {
    if (flag === '--check') return checkReference();
    await withLock(async () => {
      await installDependencies();
      await compileTypeScript();
    });
    return makeReference();
  },

  /** What the compiler finds wrong in any of the projects. */
  types: checkTypes,

  /** The addon alone, and its tests. */
  async native() {
    await withLock(async () => {
      const libtorch = await provideLibtorch();
      await buildNative(releaseBuild(libtorch.version), libtorch);
    });
  },

  /** The C++ tests; with words, those that have one in their name or their file's. */
  'native-tests': (words) => runNativeTests(currentBuild(), words),

  /** All tests, with counts of the lines that they run. */
  async coverage() {
    await setUp({ extraBuilds: [builds.coverage] });
    return measureCoverage(builds.coverage);
  },

  /** The tests on another version of libtorch: `release 2.14.1`; what follows is for jest. */
  async release([version = '', ...args]) {
    const { libtorch, build } = await setUp({ version });
    console.log(`On libtorch ${libtorch.version} in ${libtorch.root}`);
    return runTests(build, args, { LIBTORCH: libtorch.root });
  },

  /** The benchmark's program below Node, of what the build compiled. */
  async 'bench-peer'() {
    await withLock(async () => {
      const libtorch = await provideLibtorch();
      const title = "Building the benchmark's C++ program";
      await buildProgram({ ...releaseBuild(libtorch.version), title }, 'libtorch_peer', libtorch);
    });
  },

  /** The C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer. */
  asan: () => sanitized('asan'),

  /** The C++ tests that use threads under ThreadSanitizer. */
  tsan: () => sanitized('tsan'),

  /** What takes longer than the tests may, all of it even where a part fails. */
  async long() {
    const failed = [];
    for (const name of ['fuzz', 'test:installs', 'test:leaks', 'test:kills', 'test:load', 'test:asan', 'test:tsan']) {
      console.log(`\n== ${name}`);
      if ((await run('npm', ['run', '--silent', name])) !== 0) failed.push(name);
    }
    console.log(failed.length > 0 ? `\nFailed: ${failed.join(', ')}` : '\nAll passed');
    return failed.length > 0 ? 1 : 0;
  },

  'clang-format': clangFormat,

  'clang-tidy': () => clangTidy(currentBuild()),

  /**
   * The packages that are published, for this platform: with binaries for the libtorch that is found, or for each version
   * named.
   */
  async package(versions) {
    const made = [];
    for (const version of versions.length > 0 ? versions : [undefined]) {
      made.push({ libtorch: await withLock(() => prepare(version)) });
    }
    await writePackages(made);
  },

  /** What npm runs ahead of "npm pack" in this folder, if it runs scripts; .npmrc has what holds if it doesn't. */
  'refuse-pack'() {
    throw new Failure(
      'Expected "npm run package", which builds what is published and writes it to packages/: a pack of this folder would lack that.',
    );
  },

  /** What binding.gyp runs: the binaries for node-gyp's output folder, built by CMake unless a build is named. */
  async gyp([directory]) {
    const named = process.env.LIBTORCH_ATTENTION_BINARIES;
    if (named) return copyProducts(resolve(named), directory);
    await withLock(async () => {
      const libtorch = await prepare();
      // node-gyp empties its own folder, which is this checkout's where it isn't run for a package.
      const inBuild = resolve(directory).startsWith(join(root, 'build', 'Release'));
      copyProducts(await buildNative(inBuild ? builds.gyp : buildFor(libtorch), libtorch), directory);
    });
  },
};
