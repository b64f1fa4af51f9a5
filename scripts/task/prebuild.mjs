import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { modules, verify } from './libtorch.mjs';
import { Failure, output, packageScript, root, runLogged } from './process.mjs';
import { step } from './progress.mjs';

const isLinux = process.platform === 'linux';

/**
 * Adds the binaries for a libtorch to a folder's `prebuilds/<platform>-<architecture>`, without symbols that only debuggers read.
 * prebuildify makes them: it runs node-gyp, whose binding.gyp hands the build to CMake.
 *
 * @param libtorch that they are built against
 * @param out the folder
 * @param binaries of a build that is to be taken instead
 */
export async function prebuild(libtorch, out, binaries) {
  const release = modules('versions').releaseOf(libtorch.version);
  const project = stageProject();
  const options = ['--napi', '--strip', '--target', process.version, '--name', `attention-${release}`, '--out', out];
  if (isLinux) options.push('--tag-libc');
  const env = {
    ...process.env,
    LIBTORCH: libtorch.root,
    LIBTORCH_ATTENTION_BINARIES: binaries ?? '',
    // Nothing is downloaded: what is compiled takes Node-API's headers from npm.
    npm_config_nodedir: join(project, 'node'),
  };
  const prebuildify = [packageScript('prebuildify', 'bin.js'), '--cwd', project, ...options];
  await step(`Making the binaries for libtorch ${release}`, () =>
    runLogged(process.execPath, prebuildify, { log: 'prebuildify', env }),
  );
  // prebuildify takes one module of a build: the other gets the same name.
  const built = join(project, 'build', 'Release');
  const folder = join(out, 'prebuilds', `${process.platform}-${process.arch}`);
  const addon = readdirSync(folder).find((name) => name.startsWith(`attention-${release}.`) && name.endsWith('.node'));
  const loader = join(folder, addon.replace('attention', 'loader'));
  copyFileSync(join(built, 'loader.node'), loader);
  if (isLinux && output('strip', ['--strip-all', loader]) === null) {
    throw new Failure('Expected strip, of binutils, to work.');
  }
  const { compiler: _compiler, ...info } = JSON.parse(readFileSync(join(built, 'build-info.json'), 'utf8'));
  writeFileSync(join(folder, `attention-${release}.json`), `${JSON.stringify(info, null, 2)}\n`);
  await verify(libtorch, modules('binaries').prebuiltBinaries(out, release));
}

/**
 * A project for node-gyp, which empties a project's folder build: it has binding.gyp, and what that names. Of Node's headers it has
 * the one file that node-gyp asks for.
 */
function stageProject() {
  const project = join(root, 'build', 'package', 'gyp');
  rmSync(project, { recursive: true, force: true });
  mkdirSync(join(project, 'node', 'include', 'node'), { recursive: true });
  for (const name of ['binding.gyp', 'CMakeLists.txt']) copyFileSync(join(root, name), join(project, name));
  symlinkSync(join(root, 'scripts'), join(project, 'scripts'), 'junction');
  const settings = "{ 'target_defaults': { 'configurations': { 'Release': {}, 'Debug': {} } } }\n";
  writeFileSync(join(project, 'node', 'include', 'node', 'common.gypi'), settings);
  return project;
}
