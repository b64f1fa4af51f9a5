import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { checkServerOptions } from '../../lib/server/options';
import { Client, counting, echo, folder, scriptFile, serve, slow } from './server-fixtures';

const MAIN = join(__dirname, '..', '..', 'dist', 'cli', 'main.js');
const x = (...data: number[]) => ({ name: 'x', datatype: 'FP32', shape: [data.length], data });
const running: ChildProcess[] = [];

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

/** Runs the command until it has ended. */
function run(...args: string[]): { status: number | null; stderr: string } {
  return spawnSync(process.execPath, [MAIN, 'serve', ...args], { encoding: 'utf8', cwd: folder, timeout: 60_000 });
}

/** Starts the command, on a free port: what it logs, its address, and its end. */
async function start(args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [MAIN, 'serve', ...args], { cwd: folder, env: { ...process.env, ...env } });
  running.push(child);
  let log = '';
  child.stdout.on('data', (chunk) => (log += chunk));
  child.stderr.on('data', (chunk) => (log += chunk));
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  const until = async (pattern: RegExp): Promise<string> => {
    for (;;) {
      const found = pattern.exec(log)?.[1];
      if (found !== undefined) return found;
      if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}: ${log}`);
      await wait(20);
    }
  };
  const client = new Client(await until(/listening at (https?:\/\/[^"]+)/));
  return { child, client, ended, until, log: () => log };
}

test('serves models by name; SIGTERM lets requests under way end, no others begin, and ends with 0', async () => {
  const { child, client, ended, until } = await start(['--port', '0', counting(), `other=${echo()}`]);
  await until(/("Ready")/);
  expect((await client.infer('other', [x(1, 2)])).json.outputs[0].data).toEqual([1, 2]);
  const long = client.infer('counting', [x(1), { name: 'times', datatype: 'INT64', shape: [1], data: [60_000] }]);
  await wait(300);
  child.kill('SIGTERM');
  await until(/(Ending once what runs is done)/);
  await expect(
    client.get('/v2/health/live').then(
      ({ status }) => status,
      () => 'refused',
    ),
  ).resolves.not.toBe(200);
  expect(await long).toMatchObject({ status: 200, json: { outputs: [{ data: [60_001] }] } });
  expect(await ended).toBe(0);
});

test('what takes longer than the limit of the shutdown is stopped, and answered 503', async () => {
  const { child, client, ended, until } = await start(['--port', '0', '--shutdown-limit', '200ms', slow()]);
  await until(/("Ready")/);
  const endless = client.infer('slow', [x(1)]);
  await wait(300);
  child.kill('SIGTERM');
  expect(await endless).toMatchObject({ status: 503, json: { code: 'ERR_NOT_READY' } });
  expect(await ended).toBe(1);
});

test('lives, but is not ready, while models warm up', async () => {
  const request = { inputs: [x(1), { name: 'times', datatype: 'INT64', shape: [1], data: [100_000] }] };
  writeFileSync(join(folder, 'warm.json'), JSON.stringify(request));
  const config = { host: '127.0.0.1', port: 0, models: { counting: { source: 'counting.pt', warmUp: ['warm.json'] } } };
  writeFileSync(join(folder, 'serve.json'), JSON.stringify(config));
  counting();
  const { child, client, ended, until } = await start(['--config', 'serve.json']);
  expect((await client.get('/v2/health/live')).status).toBe(200);
  expect((await client.get('/v2/health/ready')).status).toBe(503);
  expect(await client.infer('counting', request.inputs)).toMatchObject({
    status: 503,
    json: { code: 'ERR_NOT_READY' },
  });
  await until(/("Ready")/);
  expect((await client.get('/v2/health/ready')).status).toBe(200);
  child.kill('SIGINT');
  expect(await ended).toBe(0);
});

test('keys come from the environment', async () => {
  const key = 'sixteen characters, or more';
  const { client, log, until } = await start(
    ['--port', '0', '--host', '0.0.0.0', '--api-key-env', 'SOME_KEY', echo()],
    { SOME_KEY: key },
  );
  await until(/("Ready")/);
  expect((await client.infer('echo', [x(1)])).status).toBe(401);
  expect((await client.with({ 'X-API-Key': key }).infer('echo', [x(1)])).status).toBe(200);
  expect(log()).not.toContain(key);
});

test('what can not be served ends the command with a line that says why', () => {
  const writes = scriptFile(
    'writes',
    'def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  torch.save(x, "f")\n  return x\n',
  );
  const broken = join(folder, 'broken.json');
  writeFileSync(broken, '{');
  for (const [args, message] of [
    [['none.pt', '--port', '0'], /none\.pt.*\[ERR_MODEL_LOAD\]/],
    [[writes, '--port', '0'], /ERR_UNTRUSTED/],
    [[echo(), echo()], /'echo' twice/],
    [[echo(), '--host', '0.0.0.0'], /--api-key-env/],
    [['--config', broken], /broken\.json/],
  ] as const) {
    const { status, stderr } = run('--log-level', 'silent', ...args);
    expect([status, stderr]).toEqual([1, expect.stringMatching(message)]);
  }
});

const GUIDE = readFileSync(join(__dirname, '..', '..', 'docs', 'serving.md'), 'utf8');
const hasCurl = spawnSync('curl', ['--version']).status === 0;

(hasCurl ? test : test.skip)('the curl lines of the guide give pages and frames', async () => {
  const client = await serve({ bert: join(__dirname, '..', 'fixtures', 'snippets', 'bert.pt2') });
  const [, block = ''] = /```sh\n(inputs=.*?)```/s.exec(GUIDE) ?? [];
  expect(block.match(/^curl --fail /gm)?.length).toBeGreaterThan(5);
  const script = block.replaceAll('http://127.0.0.1:8000', client.url);
  await promisify(execFile)('sh', ['-euc', script], { cwd: folder });
  expect(readFileSync(join(folder, 'attention.html'), 'utf8')).toContain('[CLS]');
  expect(readFileSync(join(folder, 'attention.bin')).length).toBeGreaterThan(100);
});

test('the configuration of the guide, and that of the container, have options that there are', () => {
  const [, guide] = /```json\n(.*?)```/s.exec(GUIDE) as unknown as [string, string];
  const container = readFileSync(join(__dirname, '..', '..', 'examples', 'serving', 'serve.json'), 'utf8');
  for (const text of [guide, container]) {
    const { host: _, port: __, tls: ___, shutdownLimit: ____, ...options } = JSON.parse(text);
    expect(checkServerOptions(options).models.length).toBeGreaterThan(0);
  }
});
