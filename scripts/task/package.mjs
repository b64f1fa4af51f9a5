import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { modules } from './libtorch.mjs';
import { prebuild } from './prebuild.mjs';
import { Failure, root, runLogged } from './process.mjs';

/** Copies what is loaded from one folder to another. */
export function copyProducts(from, to) {
  mkdirSync(to, { recursive: true });
  for (const name of modules('prebuilds').BUILT) copyFileSync(join(from, name), join(to, name));
}

/** The files and folders of the main package: TypeScript's output, and the sources that `libtorch-attention build` compiles. */
const contents = [
  'dist',
  'native',
  'docs',
  'examples',
  'CMakeLists.txt',
  ...['compiler', 'libtorch', 'native', 'process', 'progress'].map((name) => `scripts/task/${name}.mjs`),
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'LICENSE',
  'README.md',
];

/** The platforms that this can make packages for, on each its own. Only the first is tested, and has one published. */
const platforms = ['linux-x64', 'linux-arm64', 'darwin-arm64', 'win32-x64'];
const here = `${process.platform}-${process.arch}`;

const platformPackage = (platform) => `@libtorch-attention/${platform}`;

function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}

/**
 * The main package. No binding.gyp at its root, for which npm would run node-gyp, and nothing of what is for the repository:
 * development dependencies, scripts.
 */
function stageMain(manifest, directory) {
  for (const name of contents) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    cpSync(join(root, name), join(directory, name), { recursive: true });
  }
  const {
    devDependencies: _development,
    scripts: _scripts,
    files: _files,
    private: _private,
    binary: _binary,
    gypfile: _gyp,
    ...rest
  } = manifest;
  const optionalDependencies = Object.fromEntries(
    [...new Set([platforms[0], here])].map((name) => [platformPackage(name), manifest.version]),
  );
  writeJson(join(directory, 'package.json'), { ...rest, optionalDependencies });
}

/** This platform's package, with the binaries for each of these releases of libtorch. */
async function stagePlatform(manifest, directory, made) {
  const { releaseOf } = modules('versions');
  if (!platforms.includes(here)) {
    throw new Failure(`Expected one of the platforms ${platforms.join(', ')} but this is ${here}.`);
  }
  for (const { libtorch, binaries } of made) await prebuild(libtorch, directory, binaries);
  const { version, license, engines } = manifest;
  const releases = made.map(({ libtorch }) => releaseOf(libtorch.version));
  writeJson(join(directory, 'package.json'), {
    name: platformPackage(here),
    version,
    description: `Binaries of libtorch-attention for ${here}, for libtorch ${releases.join(', ')}${here === platforms[0] ? '' : ' (untested)'}`,
    license,
    engines,
    os: [process.platform],
    cpu: [process.arch],
    ...(process.platform === 'linux' && { libc: ['glibc'] }),
    // Yarn's archives can't be loaded from.
    preferUnplugged: true,
  });
  copyFileSync(join(root, 'LICENSE'), join(directory, 'LICENSE'));
}

/**
 * Writes what is published to packages/: the main package, and this platform's with these binaries and no others.
 * @param made each with a libtorch that they are built against, and optionally the folder of a build to be taken instead
 * @param packages the folder that they are written to
 */
export async function writePackages(made, packages = join(root, 'packages')) {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const staged = join(root, 'build', 'package');
  for (const folder of [staged, packages]) rmSync(folder, { recursive: true, force: true });
  const [main, platform] = [join(staged, 'main'), join(staged, 'platform')];
  stageMain(manifest, main);
  await stagePlatform(manifest, platform, made);
  mkdirSync(packages, { recursive: true });
  for (const folder of [main, platform]) {
    await runLogged('npm', ['pack', folder, '--pack-destination', packages], { log: 'pack' });
  }
  for (const name of readdirSync(packages)) console.log(relative(root, join(packages, name)));
}
