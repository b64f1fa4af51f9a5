import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Binaries } from '../../lib/libtorch/binaries';
import { findBinaries } from '../../lib/libtorch/binaries';
import { loadFrom, remediesFor, requireBinaries } from '../../lib/libtorch/load';
import { inspectLibtorch, type Libtorch } from '../../lib/libtorch/locate';
import { verifyLibtorch } from '../../lib/libtorch/verify';
import { releaseOf } from '../../lib/libtorch/versions';
import { archiveFiles, errorOf, temporaryFolder, writeFiles } from './fake-libtorch';

const folder = temporaryFolder();
const root = writeFiles(join(folder, 'libtorch'), archiveFiles('2.13.0+cpu'));
const libtorch = inspectLibtorch(root, 'LIBTORCH') as Libtorch;
const env = { ...process.env, LIBTORCH: root, XDG_CACHE_HOME: join(folder, 'cache'), LOCALAPPDATA: folder };

/** JavaScript in place of the compiled files. */
function binaries(name: string, loader: string, addon: string, builtAgainst = '2.13.0+cpu'): Binaries {
  const surroundings = 'exports.variable = exports.loaded = () => undefined;';
  const directory = writeFiles(join(folder, name), { 'loader.js': `${surroundings} ${loader}`, 'addon.js': addon });
  const info = { libtorch: builtAgainst };
  return { directory, loader: join(directory, 'loader.js'), addon: join(directory, 'addon.js'), info };
}

const recording = 'exports.open = (paths) => { globalThis.opened = [...(globalThis.opened ?? []), ...paths]; };';

describe('loadFrom', () => {
  test('opens the libraries of the located libtorch, then loads the addon', () => {
    const good = binaries('good', recording, 'module.exports = { loaded: globalThis.opened };');
    const loaded = loadFrom([good], env);
    expect(loaded.libtorch.root).toBe(root);
    expect(loaded.addon).toEqual({ loaded: libtorch.libraries });
    expect(loaded.withoutCuda).toBeNull();
  });

  test('a CUDA build whose CUDA libraries are missing serves the CPU, and says why not more', async () => {
    const cudaRoot = writeFiles(join(folder, 'libtorch-cuda'), archiveFiles('2.13.0+cu130'));
    const missing = 'libcudnn.so.9: cannot open shared object file';
    const loader = `exports.open = (paths) => { if (/torch_cuda/.test(paths)) throw new Error('${missing}'); };`;
    const good = binaries('without-cuda', loader, 'module.exports = { loaded: true };');
    const loaded = loadFrom([good], { ...env, LIBTORCH: cudaRoot });
    expect(loaded).toMatchObject({ addon: { loaded: true }, withoutCuda: missing });
    const verdict = await verifyLibtorch(inspectLibtorch(cudaRoot, 'LIBTORCH') as Libtorch, good, { env });
    expect(verdict).toEqual({ ok: true, reason: '', addon: true, withoutCuda: missing });
  });

  test('a library that can’t be opened is ERR_ADDON_LOAD with the cause', () => {
    const broken = binaries('broken', "exports.open = () => { throw new Error('libgomp.so.1: not found'); };", '');
    const error = errorOf(() => loadFrom([broken], env));
    expect(error.code).toBe('ERR_ADDON_LOAD');
    expect(error.message).toContain(`Expected to open libtorch 2.13.0+cpu at ${root} (found by LIBTORCH)`);
    expect(error.message).toContain('received: libgomp.so.1: not found');
    expect(error.message).toContain('apt-get install libgomp1');
    expect((error.cause as Error).message).toBe('libgomp.so.1: not found');
  });

  test('an addon that can’t be loaded is ERR_ADDON_LOAD with the cause', () => {
    const broken = binaries('broken-addon', recording, "throw new Error('undefined symbol: _ZN2at4_ops');");
    const error = errorOf(() => loadFrom([broken], env));
    expect(error.code).toBe('ERR_ADDON_LOAD');
    expect(error.message).toContain('built against libtorch 2.13.0+cpu');
    expect(error.message).toContain('compile it anew');
  });

  test('an addon built against another release is ERR_LIBTORCH_VERSION, and nothing is opened', () => {
    const other = binaries('other', "exports.open = () => { throw new Error('opened'); };", '', '2.11.0');
    const error = errorOf(() => loadFrom([other], env));
    expect(error.code).toBe('ERR_LIBTORCH_VERSION');
    expect(error.message).toContain('Expected libtorch 2.11.x but found 2.13.0+cpu');
  });

  test('the libtorch that is found decides which binaries are loaded', () => {
    const release = (version: string): Binaries =>
      binaries(`for-${version}`, recording, `module.exports = { builtAgainst: '${version}' };`, version);
    const available = [release('2.13.0'), release('2.11.0'), release('2.14.1')];
    for (const [found, builtAgainst] of [
      ['2.14.0+cu130', '2.14.1'],
      ['2.13.0+cpu', '2.13.0'],
    ] as const) {
      const LIBTORCH = writeFiles(join(folder, `libtorch-${found}`), archiveFiles(found));
      expect(loadFrom(available, { ...env, LIBTORCH })).toMatchObject({
        addon: { builtAgainst },
        libtorch: { version: found },
        binaries: { info: { libtorch: builtAgainst } },
      });
    }
    const newer = { ...env, LIBTORCH: writeFiles(join(folder, 'libtorch-2.15'), archiveFiles('2.15.0+cpu')) };
    const error = errorOf(() => loadFrom(available, newer));
    expect(error.code).toBe('ERR_LIBTORCH_VERSION');
    expect(error.message).toContain('Expected libtorch 2.11.x, 2.13.x or 2.14.x but found 2.15.0+cpu');
    // Whoever asks to try it nevertheless gets some.
    const bypassing = { ...newer, LIBTORCH_ATTENTION_BYPASS_VERSION_CHECK: '1' };
    expect(loadFrom(available, bypassing).addon).toEqual({ builtAgainst: '2.13.0' });
  });
});

describe('requireBinaries', () => {
  test('a package without binaries says where it looked and how to make them', () => {
    const error = errorOf(() => requireBinaries(folder));
    expect(error.code).toBe('ERR_ADDON_LOAD');
    expect(error.message).toContain(join(folder, 'build', 'Release'));
    expect(error.message).toContain(`in the package @libtorch-attention/${process.platform}-${process.arch}`);
    expect(error.message).toContain('npx libtorch-attention build');
  });
});

describe('findBinaries', () => {
  const platform = `node_modules/@libtorch-attention/${process.platform}-${process.arch}`;
  const build = (root: string, place: string, libtorch: string): string =>
    writeFiles(join(root, place), {
      'attention.node': '',
      'loader.node': '',
      'build-info.json': `{"libtorch":"${libtorch}"}`,
    });
  const here = `${process.platform}-${process.arch}`;
  /** What the platform's package has for a release, with tags in the names. */
  const ship = (root: string, libtorch: string, tags = '', folder = here): string => {
    const release = releaseOf(libtorch);
    writeFiles(join(root, platform), { 'package.json': '{}' });
    return writeFiles(join(root, platform, 'prebuilds', folder), {
      [`attention-${release}${tags}.node`]: '',
      [`loader-${release}${tags}.node`]: '',
      [`attention-${release}.json`]: `{"libtorch":"${libtorch}"}`,
    });
  };
  const directories = (root: string): string[] => findBinaries(root).map(({ directory }) => directory);

  test('takes what was built before what was shipped, which serves where nothing was built', () => {
    const root = join(folder, 'package');
    const shipped = ship(root, '2.13.0');
    expect(findBinaries(root)).toMatchObject([{ directory: shipped, info: { libtorch: '2.13.0' } }]);
    const built = build(root, 'build/Release', '2.13.1');
    expect(directories(root)).toEqual([built]);
  });

  test('finds those of every release', () => {
    const root = join(folder, 'releases');
    const built = build(root, 'build/releases/2.14/Release', '2.14.1+cu130');
    for (const version of ['2.14.0', '2.11.0', '2.13.0']) ship(root, version);
    expect(findBinaries(root).map(({ info, directory }) => [info.libtorch, directory === built])).toEqual([
      ['2.14.1+cu130', true],
      ['2.13.0', false],
      ['2.11.0', false],
    ]);
  });

  test('chooses prebuilt files by platform and C library, the one with most tags first', () => {
    const root = join(folder, 'tags');
    const ours = existsSync('/etc/alpine-release') ? 'musl' : 'glibc';
    ship(root, '2.14.0', '.glibc', 'plan9-mips');
    ship(root, '2.15.0', `.${ours === 'musl' ? 'glibc' : 'musl'}`);
    expect(findBinaries(root)).toEqual([]);
    for (const tags of ['', `.${ours}`, `.armv8.${ours}`]) ship(root, '2.13.0', tags);
    const [found, ...more] = findBinaries(root);
    expect(more).toEqual([]);
    expect([found?.addon, found?.loader].map((path) => basename(path ?? ''))).toEqual([
      `attention-2.13.armv8.${ours}.node`,
      `loader-2.13.armv8.${ours}.node`,
    ]);
  });

  test.each(['', '{}', '{"libtorch": 2}', 'null'])('passes over a folder with %p for build-info.json', (info) => {
    const root = join(folder, `broken-info-${info.length}`);
    writeFiles(build(root, 'build/Release', '2.13.0'), { 'build-info.json': info });
    expect(findBinaries(root)).toEqual([]);
  });
});

describe('remediesFor', () => {
  test.each([
    ["version `GLIBC_2.28' not found", 'this system is too old'],
    ['libcudart.so.13: cannot open shared object file', "CUDA's libraries are missing"],
    ['undefined symbol: foo', 'compile it anew'],
    ['anything', 'doctor'],
  ])('%s has a remedy', (reason, remedy) => {
    expect(remediesFor(reason).join('\n')).toContain(remedy);
  });
});

describe('verifyLibtorch', () => {
  describe('a child process that loads libtorch', () => {
    test('says that it works, and is not asked again', async () => {
      const count = "require('fs').appendFileSync(__dirname + '/runs', 'x');";
      const good = binaries('child', `${recording}${count}`, 'if (globalThis.opened.length !== 3) throw new Error();');
      const yes = { ok: true, reason: '', addon: true, withoutCuda: null };
      expect(await verifyLibtorch(libtorch, good, { env, remembered: true })).toEqual(yes);
      expect(await verifyLibtorch(libtorch, good, { env, remembered: true })).toEqual(yes);
      const runs = require('node:fs').readFileSync(join(good.directory, 'runs'), 'utf8');
      expect(runs).toBe('x');
    });

    test('leaves out an addon of another release', async () => {
      const other = binaries('child-other', recording, "throw new Error('loaded');", '2.11.0');
      expect(await verifyLibtorch(libtorch, other, { env })).toEqual({
        ok: true,
        reason: '',
        addon: false,
        withoutCuda: null,
      });
    });

    test('says why it does not', async () => {
      const broken = binaries('child-broken', recording, "throw new Error('no such symbol');");
      const verdict = await verifyLibtorch(libtorch, broken, { env, remembered: true });
      expect(verdict).toMatchObject({ ok: false, addon: true });
      expect(verdict.reason).toContain('no such symbol');
    });

    test('may crash without harm', async () => {
      const crashing = binaries('child-crash', recording, "process.kill(process.pid, 'SIGKILL'); for (;;);");
      const verdict = await verifyLibtorch(libtorch, crashing, { env });
      expect(verdict.ok).toBe(false);
      if (process.platform !== 'win32') expect(verdict.reason).toContain('SIGKILL');
    });
  });
});
