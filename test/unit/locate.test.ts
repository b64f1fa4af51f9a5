import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory } from '../../lib/libtorch/cache';
import { inspectLibtorch, locateLibtorch, searchLibtorch } from '../../lib/libtorch/locate';
import { runtimeRequirement, SERVED_RELEASES } from '../../lib/libtorch/versions';
import {
  archiveFiles,
  errorOf,
  fakePython,
  libraryName,
  temporaryFolder,
  wheelFiles,
  writeFiles,
} from './fake-libtorch';

const folder = temporaryFolder();
const requirement = runtimeRequirement(['2.13.0']);
let counter = 0;

/** A machine of its own: nothing on the PATH, an empty cache directory. */
function emptyMachine(): { home: string; env: NodeJS.ProcessEnv } {
  counter += 1;
  const home = join(folder, `machine-${counter}`);
  mkdirSync(home);
  return {
    home,
    env: { PATH: join(home, 'bin'), HOME: home, LOCALAPPDATA: home, XDG_CACHE_HOME: join(home, 'cache') },
  };
}

function answer(torch: string | null, searched: string[]): string {
  return `echo '${JSON.stringify({ torch, searched })}'`;
}

describe('inspectLibtorch', () => {
  test('a file is no libtorch', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect(inspectLibtorch(file, 'LIBTORCH')).toMatchObject({ reason: 'there is no such folder' });
  });
});

describe('locateLibtorch and searchLibtorch', () => {
  describe('LIBTORCH', () => {
    test('comes first, and its libraries are listed in the order in which they depend on each other', () => {
      const { home, env } = emptyMachine();
      const root = writeFiles(join(home, 'libtorch'), archiveFiles('2.13.0+cu130'));
      writeFiles(join(cacheDirectory(env), '2.13.0+cpu', 'torch'), wheelFiles('2.13.0+cpu'));
      const found = locateLibtorch({ env: { ...env, LIBTORCH: root }, requirement });
      expect(found).toMatchObject({ root, version: '2.13.0+cu130', cuda: '13.0', source: 'LIBTORCH' });
      expect(found.include).toBe(join(root, 'include'));
      const paths = (names: string[]) => names.map((name) => join(root, 'lib', libraryName(name)));
      expect(found.libraries).toEqual(paths(['c10', 'torch_cpu']));
      expect(found.cudaLibraries).toEqual(paths(['torch_cuda', 'torch']));
    });

    test('is never replaced by what else there is', () => {
      const { home, env } = emptyMachine();
      writeFiles(join(cacheDirectory(env), '2.13.0+cpu', 'torch'), wheelFiles('2.13.0+cpu'));
      const error = errorOf(() => locateLibtorch({ env: { ...env, LIBTORCH: join(home, 'nowhere') }, requirement }));
      expect(error.code).toBe('ERR_LIBTORCH_NOT_FOUND');
      expect(error.message).toContain(`${join(home, 'nowhere')}: there is no such folder`);
      expect(error.message).not.toContain('cache');
    });

    test('names what is missing in the folder, and the folder that was probably meant', () => {
      const { home, env } = emptyMachine();
      writeFiles(join(home, 'unpacked', 'libtorch'), archiveFiles('2.13.0+cpu'));
      const { message } = errorOf(() => locateLibtorch({ env: { ...env, LIBTORCH: join(home, 'unpacked') } }));
      expect(message).toContain(`lib/${libraryName('torch_cpu')}`);
      expect(message).toContain(`did you mean ${join(home, 'unpacked', 'libtorch')}?`);
    });

    test('of a wrong version is an error that names both versions, unless the check is bypassed', () => {
      const { home, env } = emptyMachine();
      const root = writeFiles(join(home, 'libtorch'), archiveFiles('2.12.1+cpu'));
      const named = { ...env, LIBTORCH: root };
      const error = errorOf(() => locateLibtorch({ env: named, requirement }));
      expect(error.code).toBe('ERR_LIBTORCH_VERSION');
      expect(error.message).toContain('Expected libtorch 2.13.x but found 2.12.1+cpu');
      expect(error.message).toContain('Binaries are here for 2.13.x only');
      expect(error.message).toContain('LIBTORCH_ATTENTION_BYPASS_VERSION_CHECK=1');
      const bypass = { ...named, LIBTORCH_ATTENTION_BYPASS_VERSION_CHECK: '1' };
      expect(locateLibtorch({ env: bypass, requirement }).version).toBe('2.12.1+cpu');
    });
  });

  const describePosix = process.platform === 'win32' ? describe.skip : describe;
  describePosix('python3', () => {
    test('is asked once, until what it imports from changes', async () => {
      const { home, env } = emptyMachine();
      const site = join(home, 'site-packages');
      const torch = writeFiles(join(site, 'torch'), wheelFiles('2.13.0+cpu'));
      const { runs } = fakePython(home, answer(torch, [site]));
      const find = () => locateLibtorch({ env, requirement });
      expect(find()).toMatchObject({ root: torch, version: '2.13.0+cpu', cuda: null, source: 'python' });
      expect(find().root).toBe(torch);
      expect(runs()).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 20));
      writeFileSync(join(site, 'installed.py'), '');
      expect(find().root).toBe(torch);
      expect(runs()).toBe(2);
    });

    test('is asked again when the torch that is remembered is gone', () => {
      const { home, env } = emptyMachine();
      const torch = writeFiles(join(home, 'elsewhere', 'torch'), wheelFiles('2.13.0+cpu'));
      const { runs } = fakePython(
        home,
        `if [ -d '${torch}' ]; then ${answer(torch, [])}; else ${answer(null, [])}; fi`,
      );
      expect(locateLibtorch({ env, requirement }).root).toBe(torch);
      rmSync(torch, { recursive: true });
      const { found, rejected } = searchLibtorch({ env, requirement });
      expect(found).toBeNull();
      expect(rejected).toContainEqual({
        source: 'python',
        place: join(home, 'bin', 'python3'),
        reason: 'it has no torch',
      });
      expect(runs()).toBe(2);
    });

    test('without torch is remembered too', () => {
      const { home, env } = emptyMachine();
      const { runs } = fakePython(home, answer(null, [home]));
      // Looking writes into the cache directory, which lies in `home` here: made before, so that it stays unchanged.
      mkdirSync(join(home, 'cache'));
      searchLibtorch({ env });
      searchLibtorch({ env });
      expect(runs()).toBe(1);
    });

    test.each([
      ['fails', 'exit 1'],
      ['answers nonsense', 'echo hello'],
    ])('that %s is no torch', (_what, script) => {
      const { home, env } = emptyMachine();
      fakePython(home, script);
      expect(errorOf(() => locateLibtorch({ env })).code).toBe('ERR_LIBTORCH_NOT_FOUND');
    });

    test('is not asked with LIBTORCH_ATTENTION_SKIP_PYTHON=1', () => {
      const { home, env } = emptyMachine();
      const torch = writeFiles(join(home, 'torch'), wheelFiles('2.13.0+cpu'));
      const { runs } = fakePython(home, answer(torch, []));
      expect(searchLibtorch({ env: { ...env, LIBTORCH_ATTENTION_SKIP_PYTHON: '1' } }).found).toBeNull();
      expect(runs()).toBe(0);
    });

    test.each(SERVED_RELEASES)('with a torch of %s is what is built against', (release) => {
      const { home, env } = emptyMachine();
      const torch = writeFiles(join(home, 'torch'), wheelFiles(`${release}.0`, '13.0'));
      fakePython(home, answer(torch, []));
      writeFiles(join(cacheDirectory(env), '2.13.0+cpu', 'torch'), wheelFiles('2.13.0+cpu'));
      expect(locateLibtorch({ env })).toMatchObject({ root: torch, version: `${release}.0`, source: 'python' });
    });

    test('with a torch of another release is passed over for the cache', () => {
      const { home, env } = emptyMachine();
      const torch = writeFiles(join(home, 'torch'), wheelFiles('2.5.1'));
      fakePython(home, answer(torch, []));
      const only = errorOf(() => locateLibtorch({ env, requirement }));
      expect(only.code).toBe('ERR_LIBTORCH_VERSION');
      expect(only.message).toContain('Expected libtorch 2.13.x but found 2.5.1');
      expect(only.message).toContain(`Served are the releases ${SERVED_RELEASES.join(', ')}.`);
      const cached = writeFiles(join(cacheDirectory(env), '2.13.0+cpu', 'torch'), wheelFiles('2.13.0+cpu'));
      const { found, rejected } = searchLibtorch({ env, requirement });
      expect(found?.root).toBe(cached);
      expect(rejected).toContainEqual({
        source: 'python',
        place: torch,
        reason: 'its version is 2.5.1',
        version: '2.5.1',
      });
    });

    test('is asked each time where nothing can be remembered', () => {
      const { home, env } = emptyMachine();
      const torch = writeFiles(join(home, 'torch'), wheelFiles('2.13.0+cpu'));
      const { runs } = fakePython(home, answer(torch, []));
      writeFileSync(join(home, 'file'), '');
      const unwritable = { ...env, XDG_CACHE_HOME: join(home, 'file'), HOME: join(home, 'file') };
      expect(locateLibtorch({ env: unwritable }).root).toBe(torch);
      expect(locateLibtorch({ env: unwritable }).root).toBe(torch);
      expect(runs()).toBe(2);
    });
  });

  describe('the cache', () => {
    test('is looked at last: the newest release that will do, CUDA before CPU', () => {
      const { env } = emptyMachine();
      const put = (name: string, kind: string, files: Record<string, string>): string =>
        writeFiles(join(cacheDirectory(env), name, kind), files);
      put('2.12.0+cpu', 'torch', wheelFiles('2.12.0+cpu'));
      const cpu = put('2.13.0+cpu', 'libtorch', archiveFiles('2.13.0+cpu'));
      expect(locateLibtorch({ env, requirement })).toMatchObject({ root: cpu, source: 'cache', cuda: null });
      const cuda = put('2.13.0+cu130', 'torch', wheelFiles('2.13.0+cu130', '13.0'));
      expect(locateLibtorch({ env, requirement })).toMatchObject({ root: cuda, source: 'cache', cuda: '13.0' });
      expect(locateLibtorch({ env, requirement: runtimeRequirement(['2.12.0']) }).version).toBe('2.12.0+cpu');
    });

    test('of one who has fetched nothing yet: the error says where was looked, and what to do', () => {
      const { env } = emptyMachine();
      const error = errorOf(() => locateLibtorch({ env, requirement }));
      expect(error.code).toBe('ERR_LIBTORCH_NOT_FOUND');
      expect(error.message).toContain('the environment variable LIBTORCH: it is not set');
      expect(error.message).toContain('there is no python3 on the PATH');
      expect(error.message).toContain(`${cacheDirectory(env)}: it holds no libtorch`);
      expect(error.message).toContain('libtorch-attention setup');
    });

    test('a half-written libtorch in it is passed over', () => {
      const { env } = emptyMachine();
      const { 'build-version': version, ...others } = archiveFiles('2.13.0+cpu');
      writeFiles(join(cacheDirectory(env), '2.13.0+cpu', 'libtorch'), others);
      expect(searchLibtorch({ env, requirement }).found).toBeNull();
      expect(version).toBeDefined();
    });

    const testLinux = process.platform === 'linux' ? test : test.skip;
    testLinux('lies where the XDG specification says', () => {
      expect(cacheDirectory({ HOME: '/home/a' })).toBe('/home/a/.cache/libtorch-attention');
      expect(cacheDirectory({ HOME: '/home/a', XDG_CACHE_HOME: '/fast' })).toBe('/fast/libtorch-attention');
      expect(cacheDirectory({ HOME: '/home/a', XDG_CACHE_HOME: 'relative' })).toBe('/home/a/.cache/libtorch-attention');
    });
  });
});
