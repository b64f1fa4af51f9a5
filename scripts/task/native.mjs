import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { findCompiler, requireCompiler } from './compiler.mjs';
import { modules, verify } from './libtorch.mjs';
import { output, root, runLogged } from './process.mjs';
import { step } from './progress.mjs';

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

/** What is said ahead of the first build. */
export function firstBuildNotice(jobs = availableJobs()) {
  const minutes = Math.max(2, Math.round(MINUTES_OF_ONE_JOB / jobs));
  return `The first run compiles the addon: about ${minutes} minutes here, with ${jobs} at a time. Later ones start at once.`;
}

/** How long all sources take, one after the other. */
const MINUTES_OF_ONE_JOB = 16;

/** Folders that CMake builds other things in, and how. */
export const builds = {
  coverage: {
    directory: join(root, 'build', 'coverage'),
    title: 'Building the addon with coverage counters',
    options: ['-DLTA_COVERAGE=ON'],
  },
  asan: {
    directory: join(root, 'build', 'asan'),
    title: 'Building the C++ tests with AddressSanitizer and UndefinedBehaviorSanitizer',
    options: ['-DLTA_SANITIZE=address,undefined'],
  },
  tsan: {
    directory: join(root, 'build', 'tsan'),
    title: 'Building the C++ tests with ThreadSanitizer',
    options: ['-DLTA_SANITIZE=thread'],
  },
  // node-gyp has its own files in build/.
  gyp: { directory: join(root, 'build', 'cmake'), title: 'Building the addon', options: ['-DLTA_TESTS=OFF'] },
};

/** Builds the addon, the loader and the C++ test program against a libtorch. Resolves to the folder of what is loaded. */
export async function buildNative(build, libtorch) {
  await compile(build, libtorch);
  const binaries = join(build.directory, 'Release');
  const info = { libtorch: libtorch.version, node: process.version, compiler: findCompiler() };
  writeFileSync(join(binaries, 'build-info.json'), `${JSON.stringify(info, null, 2)}\n`);
  await verify(libtorch, modules('binaries').binariesIn(binaries));
  return binaries;
}

/** Builds one program, in the folder of a build. Resolves to its path. */
export async function buildProgram(build, target, libtorch) {
  await compile(build, libtorch, ['--target', target]);
  return programOf(build, target);
}

/** The path of a program that a build makes. */
export function programOf({ directory }, target) {
  return join(directory, 'Release', process.platform === 'win32' ? `${target}.exe` : target);
}

/** The folders of Node-API's headers, which npm packages hold: nothing is downloaded. */
function nodeHeaders() {
  const require = createRequire(import.meta.url);
  return [require('node-api-headers').include_dir, dirname(require.resolve('node-addon-api/package.json'))];
}

/** What CMake is told of this platform: Node itself has the functions of Node-API. */
function platformSettings() {
  const settings = ['-DCMAKE_CXX_FLAGS=-DBUILDING_NODE_EXTENSION'];
  if (process.platform === 'darwin') settings.push('-DCMAKE_MODULE_LINKER_FLAGS=-undefined dynamic_lookup');
  // Published sources come without tests.
  if (!existsSync(join(root, 'test', 'native'))) settings.push('-DLTA_TESTS=OFF');
  return settings;
}

async function compile({ directory, title, options }, libtorch, target = []) {
  requireCompiler();
  const generator = output('ninja', ['--version']) ? ['-G', 'Ninja'] : [];
  const settings = [
    `-DLIBTORCH_ROOT=${libtorch.root}`,
    `-DCMAKE_JS_INC=${nodeHeaders().join(';')}`,
    ...platformSettings(),
  ];
  const env = {
    ...process.env,
    // Lets ccache find again what another checkout compiled.
    CCACHE_BASEDIR: root,
    CCACHE_NOHASHDIR: '1',
    CCACHE_SLOPPINESS: 'pch_defines,time_macros,include_file_mtime,include_file_ctime',
  };
  mkdirSync(directory, { recursive: true });
  await step(title, async (update) => {
    // Configured anew each time: cheap, and a changed libtorch or option is seen. What has to be compiled, CMake's generator knows.
    const configure = [
      '-S',
      root,
      '-B',
      directory,
      ...generator,
      '-DCMAKE_BUILD_TYPE=Release',
      ...settings,
      ...options,
    ];
    await runLogged('cmake', configure, { log: 'configure', env });
    const parallel = process.env.CMAKE_BUILD_PARALLEL_LEVEL || String(availableJobs());
    const build = ['--build', directory, '--config', 'Release', '--parallel', parallel, ...target];
    // Both of CMake's generators begin a line with how far they are.
    const onLine = (line) => /^\[ *\d/.test(line) && update(line);
    await runLogged('cmake', build, { log: 'build', env, onLine });
  });
}

/** How many files to compile, or to check, at once: each takes up to two gigabytes with libtorch's headers. */
export function availableJobs() {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2e9)));
}
