// A Redis, or Valkey, for tests: on a free port of this machine, and ended by them.
const { spawn, spawnSync } = require('node:child_process');
const { mkdtempSync, rmSync } = require('node:fs');
const { createServer } = require('node:net');
const { tmpdir } = require('node:os');
const { join } = require('node:path');

/** The program that is there, if any: systems have one of these or the other. */
const PROGRAM = ['redis-server', 'valkey-server'].find((name) => spawnSync(name, ['--version']).status === 0);

exports.hasRedis = PROGRAM !== undefined;

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** One that loses nothing of what it has said yes to. */
exports.Redis = class Redis {
  #folder = mkdtempSync(join(tmpdir(), 'redis-'));
  #child;

  static async start() {
    const redis = new Redis();
    redis.port = await freePort();
    await redis.restart();
    return redis;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async restart() {
    const place = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#folder];
    const child = spawn(PROGRAM, [...place, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always']);
    this.#child = child;
    await new Promise((resolve, reject) => {
      let log = '';
      child.stdout.on('data', (chunk) => {
        log += chunk;
        if (/Ready to accept connections/.test(log)) resolve();
      });
      child.on('close', (code) => reject(new Error(`${PROGRAM} ended with ${code}: ${log}`)));
    });
  }

  async kill() {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await closed;
  }

  async end() {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
};
