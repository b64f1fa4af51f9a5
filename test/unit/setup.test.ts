import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { buildSync } from 'esbuild';
import { zipSync } from 'fflate';
import { archiveFiles, fakePython, temporaryFolder, writeFiles } from './fake-libtorch';

// The command in a process of its own. Its bundle lies where the package's dependencies are found, but none of its
// binaries: what is fetched here is no real libtorch.
const bundles = resolve(__dirname, '..', '..', '.cache', `setup-test-${process.pid}`);
const command = join(bundles, 'a', 'b', 'setup.js');
const folder = temporaryFolder();
const content = Buffer.from(
  zipSync(
    Object.fromEntries(
      Object.entries(archiveFiles('2.13.0+cpu')).map(([name, text]) => [`libtorch/${name}`, Buffer.from(text)]),
    ),
  ),
);
let server: Server;
let mirror: string;
let answer: (response: ServerResponse) => void;
let machines = 0;

beforeAll(async () => {
  buildSync({
    stdin: {
      contents: `
        import { Command } from 'commander';
        import { registerSetup } from './lib/cli/setup';
        const program = new Command();
        registerSetup(program);
        program.parseAsync().catch((error) => { console.error(error.code, error.message); process.exitCode = 1; });`,
      resolveDir: resolve(__dirname, '..', '..'),
    },
    bundle: true,
    platform: 'node',
    packages: 'external',
    outfile: command,
  });
  server = createServer((_request, response) => answer(response));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(bundles, { recursive: true, force: true });
});

function machine(more: NodeJS.ProcessEnv = {}): { home: string; env: NodeJS.ProcessEnv; cached: () => string[] } {
  machines += 1;
  const home = join(folder, String(machines));
  mkdirSync(home);
  const env = {
    PATH: join(home, 'bin'),
    HOME: home,
    LOCALAPPDATA: home,
    XDG_CACHE_HOME: join(home, 'cache'),
    LIBTORCH_ATTENTION_MIRROR: mirror,
    ...more,
  };
  const directory = join(process.platform === 'linux' ? join(home, 'cache') : home, 'libtorch-attention');
  return { home, env, cached: () => (existsSync(directory) ? readdirSync(directory) : []) };
}

interface Result {
  code: number | null;
  output: string;
  errors: string;
}

function start(args: string[], env: NodeJS.ProcessEnv): { child: ChildProcess; result: Promise<Result> } {
  const child = spawn(process.execPath, [command, 'setup', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout?.on('data', (chunk) => (output += chunk));
  child.stderr?.on('data', (chunk) => (errors += chunk));
  return { child, result: new Promise((done) => child.on('close', (code) => done({ code, output, errors }))) };
}

const whole = (response: ServerResponse): void => {
  response.writeHead(200, { 'content-length': content.length }).end(content);
};

describe('libtorch-attention setup', () => {
  test('fetches what is missing, says where it is, and finds it the next time', async () => {
    answer = whole;
    const { env, cached } = machine();
    const first = await start([], env).result;
    expect(first).toMatchObject({ code: 0 });
    expect(first.output).toMatch(/^libtorch 2\.13\.0\+cpu \(CPU\) at .*2\.13\.0\+cpu.libtorch, from the cache\n$/);
    expect(first.errors).toContain('download');
    expect(cached()).toEqual(['2.13.0+cpu']);
    answer = () => {
      throw new Error('nothing is to be asked for');
    };
    expect((await start([], env).result).output).toBe(first.output);
  });

  test('takes what LIBTORCH names, and fetches nothing in its place', async () => {
    answer = whole;
    const { home, env, cached } = machine();
    const root = writeFiles(join(home, 'mine'), archiveFiles('2.13.0+cpu'));
    const good = await start([], { ...env, LIBTORCH: root }).result;
    expect(good).toMatchObject({ code: 0 });
    expect(good.output).toContain(`at ${root}, from the environment variable LIBTORCH`);
    const bad = await start([], { ...env, LIBTORCH: join(home, 'nowhere') }).result;
    expect(bad.code).toBe(1);
    expect(bad.errors).toContain('ERR_LIBTORCH_NOT_FOUND');
    expect(cached()).toEqual([]);
  });

  test('--print says what would be done, and does nothing', async () => {
    answer = () => {
      throw new Error('nothing is to be asked for');
    };
    const { home, env, cached } = machine();
    const first = await start(['--print'], env).result;
    expect(first.code).toBe(0);
    expect(first.output).toMatch(/^Fetches libtorch 2\.13\.0\+cpu \(about 200 MB\) into .*2\.13\.0\+cpu, since none/);
    expect(first.output).toMatch(new RegExp(`LIBTORCH: it is not set\n.*python3: .*\n.*\nFrom:\n  ${mirror}/`));
    const { bin } = fakePython(home, 'exit 1');
    const pip = await start(['--print', '--cuda'], {
      ...env,
      LIBTORCH_ATTENTION_MIRROR: '',
      PATH: `${bin}:/usr/bin:/bin`,
    }).result;
    expect(pip.output).toMatch(
      /some gigabytes.*python3 -m pip install --target .*torch==2\.13\.0\+cu\d+\nWhere that fails, from:\n {2}https:/s,
    );
    const root = writeFiles(join(home, 'mine'), archiveFiles('2.13.0+cpu'));
    expect((await start(['--print'], { ...env, LIBTORCH: root }).result).output).toBe(
      `Takes libtorch 2.13.0+cpu (CPU) at ${root}, from the environment variable LIBTORCH. Nothing is fetched.\n`,
    );
    expect((await start(['--print'], { ...env, LIBTORCH: join(home, 'no') }).result).output).toMatch(
      /^Fails, since LIBTORCH/,
    );
    expect(cached()).toEqual([]);
  });

  test('two processes at once both succeed and leave one copy', async () => {
    answer = (response) => void setTimeout(() => whole(response), 300);
    const { env, cached } = machine();
    const results = await Promise.all([start([], env).result, start([], env).result]);
    expect(results.map(({ code }) => code)).toEqual([0, 0]);
    expect(cached()).toEqual(['2.13.0+cpu']);
  });

  const testPosix = process.platform === 'win32' ? test.skip : test;
  testPosix.each(['SIGINT', 'SIGTERM'] as const)(
    'ended by %s in the middle, it leaves nothing behind',
    async (signal) => {
      const { env, cached } = machine();
      const running = new Promise<void>((begun) => {
        answer = (response) => {
          response.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 200));
          setTimeout(begun, 300);
        };
      });
      const { child, result } = start([], env);
      await running;
      expect(cached()).toHaveLength(1);
      child.kill(signal);
      expect(await result).toMatchObject({ code: 130 });
      expect(cached()).toEqual([]);
    },
  );

  test('a server without the file is an error that says what to do', async () => {
    answer = (response) => void response.writeHead(404).end();
    const { code, errors } = await start([], machine().env).result;
    expect(code).toBe(1);
    expect(errors).toContain('ERR_LIBTORCH_NOT_FOUND');
    expect(errors).toContain('404');
  });
});
