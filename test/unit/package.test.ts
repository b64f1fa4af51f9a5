import { execFile, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Diagnosis } from '../../lib/cli/doctor';
import { findBinaries } from '../../lib/libtorch/binaries';
import { versionsNeeded } from '../../lib/libtorch/elf';
import { chooseBinaries } from '../../lib/libtorch/load';
import { inspectLibtorch, type Libtorch } from '../../lib/libtorch/locate';
import { BUILT } from '../../lib/libtorch/prebuilds';
import { releaseOf, SERVED_RELEASES } from '../../lib/libtorch/versions';
import { temporaryFolder, writeFiles } from './fake-libtorch';
import { startRegistry } from './local-registry';

// What is published, installed as users install it: from packed files, by each package manager, from a registry on this machine.

const ROOT = join(__dirname, '../..');
const MODEL = join(__dirname, '../fixtures/cli/text.pt');
const folder = temporaryFolder();
const packages = join(folder, 'packages');
const { libtorch, binaries } = chooseBinaries(findBinaries());
const HERE = `${process.platform}-${process.arch}`;
const PLATFORM = `@libtorch-attention/${HERE}`;
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
let registry: Awaited<ReturnType<typeof startRegistry>>;
let tarballs: string[];
let projects = 0;

// Package managers and models, one after the other, in each test.
jest.setTimeout(180_000);

/** What is taken for a libtorch of another release, and for what was built against it: this one, called so. */
const OTHER = SERVED_RELEASES.find((each) => each !== releaseOf(libtorch.version)) as string;

function makeOther(): { libtorch: Libtorch; binaries: string } {
  const root = writeFiles(join(folder, 'other'), { 'build-version': `${OTHER}.0+cpu` });
  for (const name of ['lib', 'include']) symlinkSync(join(libtorch.root, name), join(root, name));
  const built = join(folder, 'other-built');
  mkdirSync(built);
  for (const name of BUILT) copyFileSync(join(binaries.directory, name), join(built, name));
  writeFileSync(join(built, 'build-info.json'), JSON.stringify({ libtorch: `${OTHER}.0+cpu` }));
  return { libtorch: inspectLibtorch(root, 'LIBTORCH') as Libtorch, binaries: built };
}

let other: ReturnType<typeof makeOther>;

beforeAll(async () => {
  other = makeOther();
  const made = JSON.stringify([{ libtorch, binaries: binaries.directory }, other]);
  const script = `import { writePackages } from './scripts/task/package.mjs'; await writePackages(${made}, ${JSON.stringify(packages)});`;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  tarballs = readdirSync(packages)
    .sort()
    .map((name) => join(packages, name));
  registry = await startRegistry(tarballs, join(ROOT, 'node_modules'));
}, 120_000);

afterAll(() => registry.stop());

describe('binaries', () => {
  const files = ['attention.node', 'loader.node'].map((name) => join(binaries.directory, name));

  (process.platform === 'linux' && process.arch === 'x64' ? it : it.skip)(
    'ask for no newer system than libtorch does',
    () => {
      const newest = (versions: (string | undefined)[]) =>
        Math.max(...versions.map((each) => Number(each?.split('.').at(-1) ?? 0)));
      const own = files.map(versionsNeeded);
      const theirs = readdirSync(join(libtorch.root, 'lib'))
        .filter((name) => /^lib(c10|torch|torch_cpu)\.so$/.test(name))
        .map((name) => versionsNeeded(join(libtorch.root, 'lib', name)));
      for (const family of ['GLIBC', 'GLIBCXX']) {
        expect(newest(own.map((each) => each[family]))).toBeLessThanOrEqual(newest(theirs.map((each) => each[family])));
      }
    },
  );

  // Those that count what runs know where to write the counts.
  const isCounting = readFileSync(join(binaries.directory, 'attention.node')).includes('.gcda');
  (isCounting ? it.skip : it)('say nothing of where they were built', () => {
    for (const file of files) {
      const content = readFileSync(file).toString('latin1');
      for (const path of [ROOT, libtorch.root]) expect(content.includes(path)).toBe(false);
    }
  });
});

describe('npm pack in the repository', () => {
  it.each(['--ignore-scripts', '--ignore-scripts=false'])('is refused, and says what makes packages: %s', (option) => {
    const { status, stdout, stderr } = spawnSync('npm', ['pack', option], {
      cwd: ROOT,
      encoding: 'utf8',
      // Not as a task of npm's own, which passes its settings on.
      env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))),
    });
    expect({ failed: status !== 0, stdout: stdout.replace(/^>.*\n|\n/gm, '') }).toEqual({ failed: true, stdout: '' });
    expect(stderr).toMatch(/npm-run-package|"npm run package"/);
    expect(readdirSync(ROOT).filter((name) => name.endsWith('.tgz'))).toEqual([]);
  });
});

/** An environment in which nothing but the registry is known, and libtorch lies where it was found. */
function environment(home: string): NodeJS.ProcessEnv {
  return {
    PATH: `${dirname(process.execPath)}:${process.env['PATH']}`,
    HOME: home,
    XDG_CACHE_HOME: join(home, 'cache'),
    LIBTORCH: libtorch.root,
    npm_config_registry: registry.url,
    YARN_REGISTRY: registry.url,
    npm_config_cache: join(home, 'npm'),
    npm_config_update_notifier: 'false',
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    YARN_CACHE_FOLDER: join(home, 'yarn'),
  };
}

const run = promisify(execFile);

/** A project in a folder of its own, and how commands run in it. */
function project(dependencies: Record<string, string> = { 'libtorch-attention': version }) {
  const home = join(folder, `project-${++projects}`);
  mkdirSync(home);
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'project', version: '1.0.0', dependencies }));
  const options = {
    cwd: home,
    env: environment(home),
    encoding: 'utf8' as const,
    timeout: 110_000,
  };
  return {
    home,
    /** Resolves to what a command prints; rejects where it fails. */
    command: async (name: string, ...args: string[]) => (await run(name, args, options)).stdout,
    fails: async (name: string, ...args: string[]) =>
      await run(name, args, options).then(
        ({ stdout }) => Promise.reject(new Error(`Expected a failure but received ${stdout}`)),
        ({ stderr }: { stderr: string }) => stderr,
      ),
  };
}

/** Runs a model, and prints the shapes of its weights. */
const USE = `
  const model = await ScriptModule.load(${JSON.stringify(MODEL)});
  const { attentions } = await model.captureAttention([Tensor.from([[2n, 4n, 3n]])]);
  console.log(JSON.stringify(attentions.map(({ weights }) => weights.shape)));`;
const USED = '[[1,3,3,3],[1,3,3,3]]\n';
const CJS = `const { ScriptModule, Tensor } = require('libtorch-attention'); (async () => {${USE}})();`;
const ESM = `import { ScriptModule, Tensor } from 'libtorch-attention';${USE}`;

const bin = (name: string) => join(ROOT, 'node_modules', '.bin', name);

describe('packed files', () => {
  const list = (tarball: string) =>
    spawnSync('tar', ['-tzf', tarball], { encoding: 'utf8' })
      .stdout.trim()
      .split('\n')
      .map((name) => name.replace(/^package\//, ''));
  const [main, platform] = [() => list(tarballs[0] as string), () => list(tarballs[1] as string)];

  test('are the package and its binaries for this platform', () => {
    expect(tarballs.map((path) => path.slice(packages.length + 1))).toEqual([
      `libtorch-attention-${version}.tgz`,
      `libtorch-attention-${HERE}-${version}.tgz`,
    ]);
    const libc = process.platform === 'linux' ? '.glibc' : '';
    const files = [releaseOf(libtorch.version), OTHER].flatMap((release) =>
      [`attention-${release}${libc}.node`, `loader-${release}${libc}.node`, `attention-${release}.json`].map(
        (name) => `prebuilds/${HERE}/${name}`,
      ),
    );
    expect(platform().sort()).toEqual([...files, 'LICENSE', 'package.json'].sort());
  });

  test('hold nothing that npm would compile, nor what only the repository needs', () => {
    expect(main()).toEqual(
      expect.arrayContaining(['dist/index.js', 'dist/index.d.ts', 'CMakeLists.txt', 'native/addon.cc']),
    );
    expect(main().filter((name) => /\.gyp$|\.node$|^(lib|test|bench|build)\//.test(name))).toEqual([]);
  });

  test('hold what the README and the documents link to', () => {
    const files = new Set(main());
    const documents = [...files].filter((name) => /^(README|CHANGELOG|docs\/.*|examples\/.*)\.md$/.test(name));
    expect(documents.length).toBeGreaterThan(5);
    const missing = documents.flatMap((document) =>
      [...readFileSync(join(ROOT, document), 'utf8').matchAll(/\]\(([^)#]+?)(?:#[^)]*)?\)/g)]
        .map(([, link]) => link as string)
        .filter((link) => !/^https?:/.test(link))
        .map((link) => join(dirname(document), link))
        .filter((path) => ![...files].some((name) => name === path || name.startsWith(`${path.replace(/\/$/, '')}/`)))
        .map((path) => `${document}: ${path}`),
    );
    expect(missing).toEqual([]);
  });

  test('hold the sources that their source maps name', () => {
    const map = JSON.parse(readFileSync(join(ROOT, 'dist/index.js.map'), 'utf8')) as { sourcesContent?: string[] };
    expect(map.sourcesContent?.[0]).toContain('ScriptModule');
  });

  const testLinux = process.platform === 'linux' ? test : test.skip;
  testLinux('hold binaries without symbols for debuggers, that need no newer system than was built on', () => {
    const target = join(folder, 'unpacked');
    mkdirSync(target);
    spawnSync('tar', ['-xzf', tarballs[1] as string, '-C', target]);
    const prebuilds = join(target, 'package', 'prebuilds', HERE);
    for (const [module, built] of Object.entries({ attention: binaries.addon, loader: binaries.loader })) {
      const name = readdirSync(prebuilds).find((each) => each.startsWith(module) && each.endsWith('.node'));
      const file = join(prebuilds, name as string);
      expect(spawnSync('readelf', ['-S', file], { encoding: 'utf8' }).stdout).not.toMatch(/\.symtab|\.debug_info/);
      expect(versionsNeeded(file)).toEqual(versionsNeeded(built));
    }
  });
});

describe('installed', () => {
  test('by npm from the packed files alone, into an empty project', async () => {
    const { command } = project({});
    await command('npm', 'install', ...tarballs);
    expect(await command(process.execPath, '-e', CJS)).toBe(USED);
    expect(await command(process.execPath, '--input-type=module', '-e', ESM)).toBe(USED);
    expect(await command('npx', 'libtorch-attention', 'doctor')).toContain('Everything is in place.');
    expect(await command('npx', 'libtorch-attention', 'inspect', MODEL)).toContain('1,092 parameters');
  });

  test.each([[[]], [['--ignore-scripts']]])('by npm ci %j, which compiles nothing', async (flags) => {
    const { command, home } = project();
    await command('npm', 'install', '--package-lock-only');
    const lock = readFileSync(join(home, 'package-lock.json'), 'utf8');
    expect(lock).not.toContain('hasInstallScript');
    expect(lock).toContain(PLATFORM);
    await command('npm', 'ci', ...flags);
    expect(existsSync(join(home, 'node_modules/libtorch-attention/build'))).toBe(false);
    expect(await command(process.execPath, '-e', CJS)).toBe(USED);
  });

  test('by npm without optional packages: an error that names what is missing and how to get it', async () => {
    const { command, fails } = project();
    await command('npm', 'install', '--omit=optional');
    const error = await fails(process.execPath, '-e', CJS);
    expect(error).toContain('ERR_ADDON_LOAD');
    expect(error).toContain(`"npm install ${PLATFORM}"`);
    expect(error).toContain('"npx libtorch-attention build"');
    await command('npm', 'install', '--no-save', '--force', `${PLATFORM}@${version}`);
  });

  test('with binaries for several releases, of which the libtorch that is found chooses', async () => {
    const { command } = project({});
    await command('npm', 'install', ...tarballs);
    const releases = [releaseOf(libtorch.version) as string, OTHER];
    for (const [i, root] of [libtorch.root, other.libtorch.root].entries()) {
      const on = (...args: string[]) => command('env', `LIBTORCH=${root}`, ...args);
      expect(await on(process.execPath, '-e', CJS)).toBe(USED);
      const found = JSON.parse(await on('npx', 'libtorch-attention', 'doctor', '--json')) as Diagnosis;
      expect(found.addon?.addon).toContain(join('prebuilds', HERE, `attention-${releases[i]}.`));
      expect(found.releases).toEqual([...releases].sort());
    }
  });

  test('by pnpm, whose packages see their own dependencies alone', async () => {
    const { command } = project();
    await command(bin('pnpm'), 'install', `--config.store-dir=${join(folder, 'pnpm')}`);
    expect(await command(process.execPath, '-e', CJS)).toBe(USED);
  });

  test('by yarn', async () => {
    const { command } = project();
    await command(bin('yarn'), 'install', '--non-interactive', '--registry', registry.url);
    expect(await command(process.execPath, '-e', CJS)).toBe(USED);
  });
});

describe('two versions in one tree', () => {
  /** Packs a file anew as another version. */
  function repack(tarball: string, edit: (manifest: Record<string, unknown>) => object): string {
    const target = mkdtempSync(join(folder, 'other-version-'));
    spawnSync('tar', ['-xzf', tarball, '-C', target]);
    const path = join(target, 'package', 'package.json');
    writeFileSync(path, JSON.stringify(edit(JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)));
    spawnSync('tar', ['-czf', join(target, 'packed.tgz'), '-C', target, 'package']);
    return join(target, 'packed.tgz');
  }

  test('work in processes of their own; in one process the second is refused, and the first goes on', async () => {
    const old = { version: '0.0.9', optionalDependencies: { [PLATFORM]: '0.0.9' } };
    registry.publish(repack(tarballs[0] as string, (manifest) => ({ ...manifest, ...old })));
    registry.publish(repack(tarballs[1] as string, (manifest) => ({ ...manifest, version: '0.0.9' })));
    const { command, home } = project({ 'libtorch-attention': version, older: 'npm:libtorch-attention@0.0.9' });
    await command('npm', 'install');
    const listed = await command('npm', 'ls', '--all');
    expect(listed).toContain(`libtorch-attention@${version}`);
    expect(listed).toContain('npm:libtorch-attention@0.0.9');
    expect(existsSync(join(home, 'node_modules/older/node_modules', PLATFORM, 'package.json'))).toBe(true);
    const older = CJS.replace("require('libtorch-attention')", "require('older')");
    expect(await command(process.execPath, '-e', CJS)).toBe(USED);
    expect(await command(process.execPath, '-e', older)).toBe(USED);
    const both = `const { Tensor: Older } = require('older'); require('libtorch-attention').Tensor.zeros([1]);
      try { Older.zeros([1]); } catch ({ code, message }) { console.log(code, /another copy of libtorch-attention/.test(message)); }`;
    expect(await command(process.execPath, '-e', `${both}${CJS}`)).toBe(`ERR_ADDON_LOAD true\n${USED}`);
  });
});

describe('the published sources', () => {
  let sources: string;
  beforeAll(() => {
    sources = mkdtempSync(join(folder, 'sources-'));
    spawnSync('tar', ['-xzf', tarballs[0] as string, '-C', sources, '--strip-components=1']);
  });

  test('include no file of ours that is left out', () => {
    const native = join(sources, 'native');
    const files = readdirSync(native, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /\.(cc|h|inc)$/.test(name),
    );
    expect(files.length).toBeGreaterThan(200);
    const missing = files.flatMap((name) =>
      [...readFileSync(join(native, name), 'utf8').matchAll(/^#include "([^"]+)"/gm)]
        .map(([, path = '']) => path)
        .filter((path) => ![native, dirname(join(native, name))].some((from) => existsSync(join(from, path))))
        .map((path) => `${name}: ${path}`),
    );
    expect(missing).toEqual([]);
  });

  const hasCMake = spawnSync('cmake', ['--version']).status === 0;
  (hasCMake ? test : test.skip)('are what CMake compiles', () => {
    const headers = ['node-api-headers/include', 'node-addon-api'].map((path) => join(ROOT, 'node_modules', path));
    const settings = [`-DLIBTORCH_ROOT=${libtorch.root}`, `-DCMAKE_JS_INC=${headers.join(';')}`, '-DLTA_TESTS=OFF'];
    // What isn't there is an error of this step, which compiles nothing.
    const args = ['-S', sources, '-B', join(sources, 'configured'), ...settings];
    const { status, stderr } = spawnSync('cmake', args, { encoding: 'utf8' });
    expect({ status, errors: /CMake Error[\s\S]*/.exec(stderr)?.[0] }).toEqual({ status: 0, errors: undefined });
  });
});

describe('in a project', () => {
  let installed: ReturnType<typeof project>;
  beforeAll(async () => {
    installed = project();
    await installed.command('npm', 'install');
  });

  test('of TypeScript in strict mode, without the types of Node', async () => {
    const { home, command } = installed;
    const compilerOptions = {
      strict: true,
      noUncheckedIndexedAccess: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      module: 'node16',
      target: 'es2022',
      lib: ['es2023', 'dom', 'esnext.disposable'],
      types: [],
      skipLibCheck: false,
    };
    writeFiles(home, {
      'tsconfig.json': JSON.stringify({ compilerOptions, include: ['use.ts'] }),
      'use.ts': `import { ScriptModule, Tensor, type Value } from 'libtorch-attention';
        export async function use(): Promise<Value> {
          const model = await ScriptModule.load('model.pt');
          const { output, attentions } = await model.captureAttention([Tensor.from([[1n]])]);
          const weight: number | undefined = attentions[0]?.weights.toTypedArray()[0];
          return [output, weight ?? null];
        }`,
    });
    expect(await command(bin('tsc'), '-p', home)).toBe('');
  });

  test('of jest', async () => {
    const { home, command } = installed;
    writeFiles(home, {
      'use.test.js': `const { Tensor } = require('libtorch-attention');
        test('tensors', () => {
          const tensor = Tensor.from([[1, 2]]);
          expect(tensor.toTypedArray()).toStrictEqual(Float32Array.of(1, 2));
          expect(tensor).toEqual(Tensor.from(tensor.toTypedArray(), { shape: [1, 2] }));
          expect(tensor).not.toEqual(Tensor.from([[1, 3]]));
        });`,
    });
    await command(bin('jest'), '--rootDir', home, '--testEnvironment', 'node');
    rmSync(join(home, 'use.test.js'));
  });
});
