import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { zipSync } from 'fflate';
import { globSync } from 'tinyglobby';
import { TorchError } from '../../lib/core/errors';
import { cacheDirectory } from '../../lib/libtorch/cache';
import { archiveUrl, fetchLibtorch } from '../../lib/libtorch/fetch';
import type { FetchProgress } from '../../lib/libtorch/fetching';
import { installWithPip, networkReason } from '../../lib/libtorch/pip';
import { archiveFiles, fakePython, temporaryFolder, writeFiles } from './fake-libtorch';

const folder = temporaryFolder();
const servers: Server[] = [];
let counter = 0;

afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function archive(version = '2.13.0+cpu', more: Record<string, string> = {}): Buffer {
  const files = Object.entries({ ...archiveFiles(version), ...more });
  return Buffer.from(zipSync(Object.fromEntries(files.map(([name, text]) => [`libtorch/${name}`, Buffer.from(text)]))));
}

function machine(mirror: string): NodeJS.ProcessEnv {
  counter += 1;
  const home = join(folder, `machine-${counter}`);
  mkdirSync(home);
  return {
    PATH: join(home, 'bin'),
    HOME: home,
    LOCALAPPDATA: home,
    XDG_CACHE_HOME: join(home, 'cache'),
    LIBTORCH_ATTENTION_MIRROR: mirror,
  };
}

/** What lies in the cache directory. */
function cached(env: NodeJS.ProcessEnv): string[] {
  return existsSync(cacheDirectory(env)) ? readdirSync(cacheDirectory(env)) : [];
}

async function failure(promise: Promise<unknown>): Promise<TorchError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(TorchError);
  return error as TorchError;
}

describe('fetchLibtorch', () => {
  test('fetches the archive of this platform from the mirror, unpacks it and puts it in place', async () => {
    const content = archive();
    const asked: string[] = [];
    const mirror = await serve((request, response) => {
      asked.push(request.url ?? '');
      response.writeHead(200, { 'content-length': content.length }).end(content);
    });
    const env = machine(`${mirror}/pytorch/`);
    const progress: FetchProgress[] = [];
    const libtorch = await fetchLibtorch({ env, onProgress: (each) => progress.push(each) });

    expect(asked).toEqual([new URL(archiveUrl('cpu', `${mirror}/pytorch`)).pathname]);
    expect(asked[0]).toMatch(/^\/pytorch\/libtorch\/cpu\/libtorch-.*2\.13\.0.*\.zip$/);
    const root = join(cacheDirectory(env), '2.13.0+cpu', 'libtorch');
    expect(libtorch).toMatchObject({ root, version: '2.13.0+cpu', cuda: null, source: 'cache' });
    for (const library of libtorch.libraries) expect(readFileSync(library, 'utf8')).toMatch(/^not really/);
    expect(cached(env)).toEqual(['2.13.0+cpu']);
    const last = (stage: string): FetchProgress | undefined => progress.filter((each) => each.stage === stage).at(-1);
    expect(last('download')).toEqual({ stage: 'download', done: content.length, total: content.length });
    expect(last('unpack')?.done).toBe(last('unpack')?.total);

    // A second time, nothing is asked for.
    expect((await fetchLibtorch({ env })).root).toBe(root);
    expect(asked).toHaveLength(1);
  });

  test('fetches the CUDA flavour where it is asked for', async () => {
    const content = archive('2.13.0+cu130');
    const asked: string[] = [];
    const mirror = await serve((request, response) => {
      asked.push(request.url ?? '');
      response.end(content);
    });
    const env = machine(mirror);
    expect(await fetchLibtorch({ env, cuda: true })).toMatchObject({ version: '2.13.0+cu130', cuda: '13.0' });
    expect(asked[0]).toContain('/libtorch/cu130/');
    expect(cached(env)).toEqual(['2.13.0+cu130']);
  });

  describe('refuses, leaving nothing behind,', () => {
    test('a download that ends early, after trying three times', async () => {
      const content = archive();
      let requests = 0;
      const mirror = await serve((_request, response) => {
        requests += 1;
        response.writeHead(200, { 'content-length': content.length });
        response.write(content.subarray(0, content.length / 2), () => response.destroy());
      });
      const env = machine(mirror);
      const error = await failure(fetchLibtorch({ env }));
      expect(error.code).toBe('ERR_LIBTORCH_NOT_FOUND');
      expect(error.message).toContain(archiveUrl('cpu', mirror));
      expect(requests).toBe(3);
      expect(cached(env)).toEqual([]);
    });

    test('a wrong checksum; the right one passes', async () => {
      const content = archive();
      const mirror = await serve((_request, response) => response.end(content));
      const env = { ...machine(mirror), LIBTORCH_ATTENTION_SHA256: 'ab'.repeat(32) };
      const actual = createHash('sha256').update(content).digest('hex');
      const error = await failure(fetchLibtorch({ env }));
      expect(error.message).toContain(`expected the SHA-256 ${'ab'.repeat(32)} but received ${actual}`);
      expect(cached(env)).toEqual([]);
      await fetchLibtorch({ env: { ...env, LIBTORCH_ATTENTION_SHA256: actual.toUpperCase() } });
      expect(cached(env)).toEqual(['2.13.0+cpu']);
    });

    test('a server that has no such file, at once', async () => {
      let requests = 0;
      const mirror = await serve((_request, response) => {
        requests += 1;
        response.writeHead(404).end('no');
      });
      const env = machine(mirror);
      expect((await failure(fetchLibtorch({ env }))).message).toContain('the server answered 404');
      expect(requests).toBe(1);
      expect(cached(env)).toEqual([]);
    });

    test('a server that hangs in the middle', async () => {
      const content = archive();
      const mirror = await serve((_request, response) => {
        response.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 100));
      });
      const env = machine(mirror);
      const error = await failure(fetchLibtorch({ env, idleTimeoutMs: 100 }));
      expect(error.message).toContain('the server sent nothing for 0.1 s');
      expect(cached(env)).toEqual([]);
    });

    test('what is no archive', async () => {
      const mirror = await serve((_request, response) => response.end('<html>Please log in</html>'));
      const env = machine(mirror);
      expect((await failure(fetchLibtorch({ env }))).code).toBe('ERR_LIBTORCH_NOT_FOUND');
      expect(cached(env)).toEqual([]);
    });

    test('an archive with a damaged file', async () => {
      const large = Array.from({ length: 4000 }, (_, index) => index * 7919).join('');
      const content = Buffer.from(
        zipSync({
          'libtorch/lib/large': [Buffer.from(large), { level: 0 }],
          'libtorch/build-version': Buffer.from('2'),
        }),
      );
      content[200] = (content[200] as number) ^ 1;
      const mirror = await serve((_request, response) => response.end(content));
      const env = machine(mirror);
      expect((await failure(fetchLibtorch({ env }))).message).toContain('libtorch/lib/large has a wrong checksum');
      expect(cached(env)).toEqual([]);
    });

    test('an archive that would write outside of its folder', async () => {
      const mirror = await serve((_request, response) => response.end(archive('2.13.0+cpu', { '../../evil': 'x' })));
      const env = machine(mirror);
      expect((await failure(fetchLibtorch({ env }))).code).toBe('ERR_LIBTORCH_NOT_FOUND');
      expect(cached(env)).toEqual([]);
    });

    test('another version than was asked for', async () => {
      const mirror = await serve((_request, response) => response.end(archive('2.12.0+cpu')));
      const env = machine(mirror);
      const error = await failure(fetchLibtorch({ env }));
      expect(error.code).toBe('ERR_LIBTORCH_VERSION');
      expect(error.message).toContain('2.13.0');
      expect(error.message).toContain('2.12.0+cpu');
      expect(cached(env)).toEqual([]);
    });

    test('what the caller finds not to work', async () => {
      const mirror = await serve((_request, response) => response.end(archive()));
      const env = machine(mirror);
      const verify = () => Promise.reject(new TorchError('ERR_ADDON_LOAD', 'it does not load'));
      expect((await failure(fetchLibtorch({ env, verify }))).message).toBe('it does not load');
      expect(cached(env)).toEqual([]);
    });
  });

  test('goes on after a server error that passes', async () => {
    let requests = 0;
    const mirror = await serve((_request, response) => {
      requests += 1;
      if (requests === 1) response.writeHead(503).end();
      else response.end(archive());
    });
    expect((await fetchLibtorch({ env: machine(mirror) })).version).toBe('2.13.0+cpu');
  });

  describe('goes on where a download was broken off,', () => {
    /** How many bytes of a download are on the disk. */
    const written = (env: NodeJS.ProcessEnv): number => {
      const [file] = globSync('incomplete-*/partial-*/archive', { cwd: cacheDirectory(env), absolute: true });
      return file === undefined ? 0 : (statSync(file, { throwIfNoEntry: false })?.size ?? 0);
    };

    /**
     * Serves ranges of a file as web servers do. Where it is told to cut an answer short, it does so, or what it is told instead, once
     * the client has written that part.
     */
    async function ranges(
      content: Buffer,
      cut: () => number | undefined,
      { etag = (): string => '"1"', broken = () => {} } = {},
    ) {
      const asked: string[] = [];
      const mirror = await serve((request, response) => {
        const { range = '', 'if-range': validator } = request.headers;
        asked.push(range);
        const from = validator === etag() ? Number(/^bytes=(\d+)-$/.exec(range)?.[1] ?? 0) : 0;
        const headers = { 'accept-ranges': 'bytes', etag: etag(), 'content-length': content.length - from };
        if (from === 0) response.writeHead(200, headers);
        else
          response.writeHead(206, {
            ...headers,
            'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
          });
        const length = cut();
        if (length === undefined) response.end(content.subarray(from));
        else {
          response.write(content.subarray(from, from + length));
          const timer = setInterval(() => {
            if (written(env) < from + length) return;
            clearInterval(timer);
            broken();
            response.destroy();
          }, 5);
        }
      });
      const env = machine(mirror);
      return { env, mirror, asked };
    }

    test('as often as that brings more of it', async () => {
      const content = archive();
      const step = Math.ceil(content.length / 6);
      const { env, asked } = await ranges(content, () => (asked.length < 6 ? step : undefined));
      const hash = createHash('sha256').update(content).digest('hex');
      const progress: FetchProgress[] = [];
      await fetchLibtorch({
        env: { ...env, LIBTORCH_ATTENTION_SHA256: hash },
        onProgress: (each) => progress.push(each),
      });
      expect(asked).toEqual(['', ...[1, 2, 3, 4, 5].map((times) => `bytes=${times * step}-`)]);
      const downloads = progress.filter(({ stage }) => stage === 'download');
      expect(new Set(downloads.map(({ total }) => total))).toEqual(new Set([content.length]));
      expect(downloads.at(-1)?.done).toBe(content.length);
      expect(cached(env)).toEqual(['2.13.0+cpu']);
    }, 20_000);

    test('in the next process, after an interruption', async () => {
      const content = archive();
      const controller = new AbortController();
      const broken = () => controller.abort(new Error('enough'));
      const { env, asked } = await ranges(content, () => (asked.length > 1 ? undefined : 100), { broken });
      await expect(fetchLibtorch({ env, signal: controller.signal })).rejects.toThrow('enough');
      expect(cached(env)).toEqual([expect.stringMatching(/^partial-/)]);
      expect((await fetchLibtorch({ env })).version).toBe('2.13.0+cpu');
      expect(asked).toEqual(['', 'bytes=100-']);
      expect(cached(env)).toEqual(['2.13.0+cpu']);
    });

    test('by a process that was killed', async () => {
      const content = archive();
      const { env, mirror, asked } = await ranges(content, () => undefined);
      const url = archiveUrl('cpu', mirror);
      const name = `partial-${createHash('sha256').update(url).digest('hex').slice(0, 16)}`;
      const left = join(cacheDirectory(env), `incomplete-${hostname()}-99999999-abcdef`, name);
      writeFiles(left, { validator: '"1"', archive: '' });
      writeFileSync(join(left, 'archive'), content.subarray(0, 50));
      expect((await fetchLibtorch({ env })).version).toBe('2.13.0+cpu');
      expect(asked).toEqual(['bytes=50-']);
      expect(cached(env)).toEqual(['2.13.0+cpu']);
    });

    test('from its beginning, where the file has changed meanwhile', async () => {
      const content = archive();
      let version = 1;
      const { env, asked } = await ranges(content, () => (version++ === 1 ? 100 : undefined), {
        etag: () => `"${Math.min(version, 2)}"`,
      });
      expect((await fetchLibtorch({ env })).version).toBe('2.13.0+cpu');
      expect(asked).toEqual(['', 'bytes=100-']);
    });
  });

  test('two at once both get it, and one copy is kept', async () => {
    const content = archive();
    const mirror = await serve((_request, response) => void setTimeout(() => response.end(content), 50));
    const env = machine(mirror);
    const [first, second] = await Promise.all([fetchLibtorch({ env }), fetchLibtorch({ env })]);
    expect(first?.root).toBe(second?.root);
    expect(cached(env)).toEqual(['2.13.0+cpu']);
  });

  test('aborted, it rejects with the reason at once and leaves nothing behind', async () => {
    const content = archive();
    const controller = new AbortController();
    const mirror = await serve((_request, response) => {
      response.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 100));
      setTimeout(() => controller.abort(new Error('enough')), 50);
    });
    const env = machine(mirror);
    await expect(fetchLibtorch({ env, signal: controller.signal })).rejects.toThrow('enough');
    expect(cached(env)).toEqual([]);
  });

  test('repairs a damaged copy, and removes what a killed process left, but not what a running one writes', async () => {
    const mirror = await serve((_request, response) => response.end(archive()));
    const env = machine(mirror);
    const directory = cacheDirectory(env);
    writeFiles(join(directory, '2.13.0+cpu', 'libtorch', 'lib'), { 'half-written': '' });
    // No process has a number this large.
    writeFiles(join(directory, `incomplete-${hostname()}-99999999-abcdef`), { 'libtorch.zip': '' });
    writeFiles(join(directory, `incomplete-${hostname()}-${process.ppid}-abcdef`), { 'libtorch.zip': '' });
    await fetchLibtorch({ env });
    expect(cached(env).sort()).toEqual(['2.13.0+cpu', `incomplete-${hostname()}-${process.ppid}-abcdef`]);
  });

  const describePosix = process.platform === 'win32' ? describe.skip : describe;
  describePosix('with pip', () => {
    /** A python3 whose pip writes a torch of this version to the folder after --target. */
    function pip(version: string): string {
      return `
case "$*" in
  *--version) echo pip 99; exit 0 ;;
esac
echo "$@" > "$HOME/arguments"
while [ "$1" != --target ]; do shift; done
echo "Collecting torch"
mkdir -p "$2/torch/lib" "$2/torch/include"
for name in c10 torch_cpu torch; do touch "$2/torch/lib/lib$name.so" "$2/torch/lib/lib$name.dylib"; done
printf '__version__ = "${version}"\\ncuda = None\\n' > "$2/torch/version.py"`;
    }

    function machineWithPip(script: string): NodeJS.ProcessEnv {
      const { LIBTORCH_ATTENTION_MIRROR: _mirror, ...env } = machine('');
      const { bin } = fakePython(env['HOME'] as string, script);
      return { ...env, PATH: `${bin}:/usr/bin:/bin` };
    }

    test('asks for the CPU build alone, without its dependencies', async () => {
      const env = machineWithPip(pip('2.13.0+cpu'));
      const messages: (string | undefined)[] = [];
      const libtorch = await fetchLibtorch({ env, onProgress: ({ message }) => messages.push(message) });
      expect(libtorch).toMatchObject({ root: join(cacheDirectory(env), '2.13.0+cpu', 'torch'), version: '2.13.0+cpu' });
      const asked = readFileSync(join(env['HOME'] as string, 'arguments'), 'utf8');
      expect(asked).toContain('--no-deps');
      expect(asked).toMatch(process.platform === 'darwin' ? /torch==2\.13\.0$/m : /torch==2\.13\.0\+cpu$/m);
      expect(messages).toContain('Collecting torch');
      expect(cached(env)).toEqual(['2.13.0+cpu']);
    });

    const WARNING = `WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /whl/cpu/torch/`;

    test('without a network, says what the network said ahead of what pip makes of it, and no way to gigabytes of CUDA', async () => {
      const env = machineWithPip(
        `case "$*" in *--version) exit 0 ;; esac\ncat >&2 <<'END'\n${WARNING}\nERROR: Could not find a version\nERROR: No matching distribution found for torch\nEND\nexit 1`,
      );
      const fetching = jest
        .spyOn(globalThis, 'fetch')
        .mockRejectedValue(
          Object.assign(new TypeError('fetch failed'), { cause: Object.assign(new Error('x'), { code: 'ENOTFOUND' }) }),
        );
      const { message } = await failure(fetchLibtorch({ env }));
      expect(fetching).toHaveBeenCalledTimes(1);
      fetching.mockRestore();
      expect(message).toMatch(
        /from pip: Failed to establish a new connection: \[Errno -3\] Temporary failure in name resolution, so that no matching distribution found for torch\n/,
      );
      expect(message).toMatch(/pip install --no-deps torch==2\.13\.0\+cpu"|darwin/);
      expect(message).not.toMatch(/torch==2\.13\.0"/);
    });

    test('a pip that finds no index within its time is given up', async () => {
      const env = machineWithPip(
        `case "$*" in *--version) exit 0 ;; esac\necho "Looking in indexes: x"\ncat >&2 <<'END'\n${WARNING}\nEND\ntrap 'exit 130' INT\nwhile true; do sleep 0.05; done`,
      );
      const context = { env, onProgress: () => {} };
      const wheels = { requirements: ['torch'], dependencies: false };
      const started = Date.now();
      expect(await installWithPip(join(folder, 'site'), folder, wheels, context, 300)).toMatch(
        /^Failed to establish a new connection: \[Errno -3\] Temporary failure in name resolution \(given up after \d+\.\d s\)$/,
      );
      expect(Date.now() - started).toBeLessThan(10_000);
    });

    test('a pip that is only slow, with no connection failed, has four times that, and no more', async () => {
      const wheels = { requirements: ['torch'], dependencies: false };
      const install = (script: string) => {
        const env = machineWithPip(`case "$*" in *--version) exit 0 ;; esac\n${script}`);
        return installWithPip(join(folder, 'site'), folder, wheels, { env }, 500);
      };
      expect(await install('sleep 1; echo "Collecting torch"; sleep 1.5')).toBeNull();
      expect(await install(`trap 'exit 130' INT\nwhile true; do sleep 0.05; done`)).toMatch(
        /^no package index answered \(given up after \d+\.\d s\)$/,
      );
    });

    test('a pip that has begun to fetch has all the time', async () => {
      const env = machineWithPip(`case "$*" in *--version) exit 0 ;; esac\necho "Collecting torch"\nsleep 1`);
      const wheels = { requirements: ['torch'], dependencies: false };
      expect(await installWithPip(join(folder, 'site'), folder, wheels, { env }, 300)).toBeNull();
    });

    test.each([
      [
        "('Connection to x.org timed out. (connect timeout=15)')",
        'Connection to x.org timed out. (connect timeout=15)',
      ],
      [
        '("HTTPSConnection(host=\'x.org\', port=443): Failed to resolve")',
        "HTTPSConnection(host='x.org', port=443): Failed to resolve",
      ],
      ["('Cannot connect to proxy.', OSError('403'))", "Cannot connect to proxy.', OSError('403')"],
    ])('reads what pip writes of connections: %s', (thrown, reason) => {
      expect(networkReason(`WARNING: Retrying (x) after connection broken by 'SomeError${thrown}': /simple/`)).toBe(
        reason,
      );
    });

    test('an empty LIBTORCH_ATTENTION_MIRROR is none', async () => {
      const env = { ...machineWithPip(pip('2.13.0+cpu')), LIBTORCH_ATTENTION_MIRROR: '' };
      expect(await fetchLibtorch({ env })).toMatchObject({ version: '2.13.0+cpu', source: 'cache' });
    });

    test.each([
      ['stops pip', 'trap \'echo stopped > "$HOME/stopped"; exit 130\' INT', true],
      ['ends a pip that ignores it', "trap '' INT", false],
    ])('interrupted, %s and leaves nothing behind', async (_what, trap, stopped) => {
      const env = machineWithPip(
        `case "$*" in *--version) exit 0 ;; esac\n${trap}\necho started\nwhile true; do sleep 0.05; done`,
      );
      const controller = new AbortController();
      const onProgress = (): void => controller.abort(new Error('enough'));
      await expect(fetchLibtorch({ env, signal: controller.signal, onProgress })).rejects.toThrow('enough');
      expect(existsSync(join(env['HOME'] as string, 'stopped'))).toBe(stopped);
      expect(cached(env)).toEqual([]);
    });
  });

  test('a server that is not there is asked once', async () => {
    const server = await serve(() => {});
    servers.pop()?.close();
    const asked = jest.spyOn(globalThis, 'fetch');
    try {
      const { message } = await failure(fetchLibtorch({ env: machine(server) }));
      expect(message).toMatch(/fetch failed: .*ECONNREFUSED/);
      expect(asked).toHaveBeenCalledTimes(1);
    } finally {
      asked.mockRestore();
    }
  });

  test('a server that takes too long to answer is asked once', async () => {
    let requests = 0;
    const mirror = await serve(() => void (requests += 1));
    const { message } = await failure(fetchLibtorch({ env: machine(mirror), answerTimeoutMs: 100 }));
    expect(message).toContain('the server did not answer within 0.1 s');
    expect(requests).toBe(1);
  });

  test.each(['not an address', 'file:///tmp'])('a mirror that is no address is an error: %s', async (mirror) => {
    expect(await failure(fetchLibtorch({ env: machine(mirror) }))).toMatchObject({ code: 'ERR_LIBTORCH_NOT_FOUND' });
  });

  test('a cache directory that can not be written is an error that says what to set', async () => {
    const env = machine('http://127.0.0.1:9');
    writeFiles(env['HOME'] as string, { cache: 'a file' });
    const error = await failure(fetchLibtorch({ env }));
    expect(error.code).toBe('ERR_LIBTORCH_NOT_FOUND');
    expect(error.message).toMatch(/a cache directory that can be written .*cache.*Set XDG_CACHE_HOME/s);
  });

  const testAsRoot = process.getuid?.() === 0 ? test : test.skip;
  testAsRoot('a user that the system does not know has no cache, and gets errors with codes', () => {
    const script = `
      const { cacheDirectory } = require(${JSON.stringify(join(__dirname, '../../dist/libtorch/cache.js'))});
      const { fetchLibtorch } = require(${JSON.stringify(join(__dirname, '../../dist/libtorch/fetch.js'))});
      const { locateLibtorch } = require(${JSON.stringify(join(__dirname, '../../dist/libtorch/locate.js'))});
      process.setgid(54321);
      process.setuid(54321);
      const env = { PATH: '/nowhere', LIBTORCH_ATTENTION_MIRROR: 'http://127.0.0.1:9' };
      console.log(cacheDirectory(env));
      try { locateLibtorch({ env }); } catch (error) { console.log(error.code); }
      fetchLibtorch({ env }).catch((error) => console.log(error.code));`;
    const env = { PATH: process.env['PATH'] };
    const { stdout } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', env });
    expect(stdout).toMatch(/^.*nonexistent.*\nERR_LIBTORCH_NOT_FOUND\nERR_LIBTORCH_NOT_FOUND\n$/);
  });

  test('where pip finds nothing and neither does the archive, the error says both', async () => {
    const mirror = await serve((_request, response) => response.writeHead(404).end());
    const error = await failure(fetchLibtorch({ env: machine(mirror) }));
    expect(error.message).toContain('from pip: LIBTORCH_ATTENTION_MIRROR is set');
    expect(error.message).toContain(`from ${archiveUrl('cpu', mirror)}: the server answered 404`);
    expect(error.message).toContain('set LIBTORCH');
  });
});
