import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { inputData, WIDTHS } from '../models.mjs';
import { megabytes } from '../report.mjs';

export const about = 'a server under load over loopback: requests a second, latency, event loop, overload';
export const models = ['tiny.pt', 'bert.pt'];

const { SLEEPING_THREADS } = createRequire(import.meta.url)('../../dist/libtorch/wait-policy.js');
const SERVER = fileURLToPath(new URL('../peers/serving.mjs', import.meta.url));
const CONNECTIONS = 8;
const SECONDS = 8;
const TOKENS = { 'tiny.pt': 8, 'bert.pt': 64 };
/** Of the 99th percentile of the event loop's delay, in milliseconds. */
const MOST_DELAY = 20;
/** Overload: so many connections for a queue of so many. */
const CROWD = 128;
const QUEUE = 8;

/** A process that serves a model. */
class Server {
  static async start(file, path, options = {}) {
    const server = new Server();
    server.file = file;
    // As the command `serve` sets it.
    const env = { ...SLEEPING_THREADS, ...process.env };
    server.child = fork(SERVER, [file, path, JSON.stringify(options)], { env });
    const [{ url }] = await Promise.race([
      once(server.child, 'message'),
      once(server.child, 'exit').then(() => Promise.reject(new Error(`the server of ${file} ended`))),
    ]);
    server.url = url;
    return server;
  }

  async ask(message) {
    this.child.send(message);
    return (await once(this.child, 'message'))[0];
  }

  /** Requests as fast as they are answered, from so many connections. */
  async load(connections, duration) {
    const width = WIDTHS[this.file];
    const tokens = TOKENS[this.file];
    const shape = width === 0 ? [1, tokens] : [1, tokens, width];
    const data = Array.from(inputData(width, 1, tokens), Number);
    const name = width === 0 ? 'input_ids' : 'x';
    const body = JSON.stringify({ inputs: [{ name, datatype: width === 0 ? 'INT64' : 'FP32', shape, data }] });
    await this.ask('begin');
    const result = await autocannon({
      url: `${this.url}/v2/models/${this.file}/infer`,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      connections,
      duration,
    });
    const { loop, memory } = await this.ask('end');
    return { result, loop, memory };
  }

  async end() {
    const ended = once(this.child, 'exit');
    this.child.disconnect();
    await ended;
  }
}

const statuses = ({ statusCodeStats }) =>
  Object.entries(statusCodeStats)
    .map(([status, { count }]) => `${count} × ${status}`)
    .join(', ');

export async function run({ report, models: files, quick }) {
  const seconds = quick ? 1 : SECONDS;
  for (const file of models.filter((name) => files.has(name))) {
    const server = await Server.start(file, files.path(file));
    try {
      await server.load(1, 1); // compiles the program
      const rows = [];
      for (const connections of [1, CONNECTIONS]) {
        const { result, loop, memory } = await server.load(connections, seconds);
        rows.push({ connections, ...figures(result), loop, memory, statuses: statuses(result) });
      }
      const lines = rows.map(({ connections, rate, p50, p99, loop, statuses }) => [
        `${connections} connection${connections > 1 ? 's' : ''}`,
        rate.toFixed(0),
        p50.toFixed(1),
        p99.toFixed(1),
        loop.p99.toFixed(1),
        statuses,
      ]);
      const head = ['requests/s', 'p50, ms', 'p99, ms', 'event loop p99, ms', 'answers'];
      report.table(`${file}, ${TOKENS[file]} tokens, JSON`, head, lines, { rows });
      const most = Math.max(...rows.map(({ loop }) => loop.p99));
      report.goal(`${file}: event loop, 99th percentile of its delay`, most, MOST_DELAY, { unit: ' ms', digits: 1 });
    } finally {
      await server.end();
    }
  }
  if (files.has('bert.pt')) await overload(report, files.path('bert.pt'), seconds);
}

function figures({ requests, latency }) {
  return { rate: requests.average, p50: latency.p50, p99: latency.p99 };
}

/** Many more than the queue holds; then as many as before. */
async function overload(report, path, seconds) {
  const server = await Server.start('bert.pt', path, { maxQueue: QUEUE });
  try {
    const phases = [
      ['before', 2],
      [`${CROWD} connections, a queue of ${QUEUE}`, CROWD],
      ['the same again', CROWD],
      ['after', 2],
    ];
    const rows = [];
    for (const [name, connections] of phases) {
      const { result, loop, memory } = await server.load(connections, Math.max(1, seconds / 2));
      const served = result['2xx'] / result.duration;
      rows.push({ name, served, ...figures(result), loop, memory, statuses: statuses(result) });
    }
    const lines = rows.map(({ name, served, loop, memory, statuses }) => [
      name,
      served.toFixed(1),
      loop.p99.toFixed(1),
      megabytes(memory),
      statuses,
    ]);
    report.table('bert.pt, overload', ['served/s', 'event loop p99, ms', 'memory', 'answers'], lines, { rows });
    const [before, , , after] = rows;
    report.goal('served after an overload × before', after.served / before.served, 0.8, { atLeast: true });
    report.goal('event loop in an overload', Math.max(...rows.map(({ loop }) => loop.p99)), MOST_DELAY, {
      unit: ' ms',
      digits: 1,
    });
  } finally {
    await server.end();
  }
}
