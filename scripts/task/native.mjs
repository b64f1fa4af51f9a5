import { existsSync, writeFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { findCompiler, requireCompiler } from './compiler.mjs';
import { modules, verify } from './libtorch.mjs';
import { output, packageScript, root, runLogged } from './process.mjs';
import { step } from './progress.mjs';
import { fingerprint, unlessDone } from './stamp.mjs';

const sources = ['native', 'CMakeLists.txt', 'test/native', 'package-lock.json'];

/** The build of the addon for a version of libtorch: each release has a folder of its own. */
export function releaseBuild(version) {
  const { buildDirectory } = modules('binaries');
  const { releaseOf } = modules('versions');
  return { directory: buildDirectory(releaseOf(version)), title: 'Building the addon', options: [] };
}

/** The build of the addon for one version of libtorch, beside what the package loads by itself. */
export function versionBuild(version) {
  const title = `Building the addon for libtorch ${version}`;
  return { directory: join(root, 'build', 'versions', version), title, options: [] };
}

/** Whether the addon was built here before, for any libtorch. */
export function anythingBuilt() {
  return ['Release', 'releases', 'versions'].some((name) => existsSync(join(root, 'build', name)));
}

/** Folders that CMake builds other things in, and how. */
export const builds = {
  coverage: {
    directory: join(root, 'build', 'coverage'),
    title: 'Building the addon with coverage counters',
    options: ['--CDLTA_COVERAGE=ON'],
  },
  asan: {
    directory: join(root, 'build', 'asan'),
    title: 'Building the C++ tests with AddressSanitizer and UndefinedBehaviorSanitizer',
    options: ['--CDLTA_SANITIZE=address,undefined'],
  },
  tsan: {
    directory: join(root, 'build', 'tsan'),
    title: 'Building the C++ tests with ThreadSanitizer',
    options: ['--CDLTA_SANITIZE=thread'],
  },
  // node-gyp has its own files in build/.
  gyp: { directory: join(root, 'build', 'cmake'), title: 'Building the addon', options: ['--CDLTA_TESTS=OFF'] },
};

/** What a build leaves in its folder Release for the package to load. */
export const products = ['attention.node', 'loader.node', 'build-info.json'];

/** Builds the addon, the loader and the C++ test program against a libtorch. Resolves to the folder of what is loaded. */
export async function buildNative({ directory, title, options }, libtorch) {
  const binaries = join(directory, 'Release');
  const decisive = [libtorch.root, libtorch.version, process.version, process.arch, process.env.CXX, options];
  const results = products.map((name) => join(binaries, name));
  await unlessDone(join(directory, 'build.stamp'), fingerprint(sources, decisive), results, async () => {
    requireCompiler();
    await step(title, (update) => compile(libtorch, directory, options, update));
    const info = { libtorch: libtorch.version, node: process.version, compiler: findCompiler() };
    writeFileSync(join(binaries, 'build-info.json'), `${JSON.stringify(info, null, 2)}\n`);
  });
  await verify(libtorch, binaries);
  return binaries;
}

/** Builds the benchmark's program below Node, from what the release build compiled. */
export function buildBenchProgram(libtorch) {
  const build = { ...releaseBuild(libtorch.version), title: "Building the benchmark's C++ program" };
  return buildProgram(build, 'libtorch_peer', libtorch, ['bench/peers/libtorch.cc']);
}

/** Builds the C++ test program alone. Resolves to its path. */
export function buildTestProgram(build, libtorch) {
  return buildProgram(build, 'native_tests', libtorch);
}

async function buildProgram({ directory, title, options }, target, libtorch, moreSources = []) {
  const program = join(directory, 'Release', process.platform === 'win32' ? `${target}.exe` : target);
  const current = fingerprint(
    [...sources, ...moreSources],
    [libtorch.root, libtorch.version, process.env.CXX, options],
  );
  await unlessDone(join(directory, `${target}.stamp`), current, [program], async () => {
    requireCompiler();
    await step(title, (update) => compile(libtorch, directory, options, update, ['--target', target]));
  });
  return program;
}

async function compile(libtorch, directory, options, update, target = []) {
  const cmakeJs = packageScript('cmake-js', 'bin/cmake-js');
  const settings = [`--CDCMAKE_PREFIX_PATH=${libtorch.root}`, `--CDLIBTORCH_ROOT=${libtorch.root}`, ...options];
  const generator = output('ninja', ['--version']) ? ['--generator', 'Ninja'] : [];
  const common = ['--directory', root, '--out', directory, '--config', 'Release', ...generator, ...settings];
  const env = {
    ...process.env,
    // Lets ccache find again what another checkout compiled.
    CCACHE_BASEDIR: root,
    CCACHE_NOHASHDIR: '1',
    CCACHE_SLOPPINESS: 'pch_defines,time_macros,include_file_mtime,include_file_ctime',
  };
  const onLine = (line) => {
    const progress = /^\[\s*(\d+)\/(\d+)\]|^\[\s*(\d+%)\]/.exec(line);
    if (progress) update(progress[3] ?? `${progress[1]} of ${progress[2]}`);
  };
  // Configured anew each time: cheap, and a changed libtorch or option is seen.
  await runLogged(process.execPath, [cmakeJs, 'configure', ...common], { log: 'configure', env });
  const parallel = process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(availableJobs());
  const build = [cmakeJs, 'build', ...common, '--parallel', parallel, ...target];
  await runLogged(process.execPath, build, { log: 'build', env, onLine });
}

/** Compiling against libtorch's headers takes up to two gigabytes a file. */
function availableJobs() {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2e9)));
}
