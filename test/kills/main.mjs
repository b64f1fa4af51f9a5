// npm run test:kills: bulk runs in which processes are killed at random moments (workers, who gives them work, the submitter,
// Redis) or stopped for a while. Each input has to end once in the results or in failed.jsonl, with the tensors that an
// undisturbed run gives. A seed says which moments these are, as far as the machine's load lets it.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Random } from '../fuzz/random.mjs';

const require = createRequire(import.meta.url);
const { hasRedis, Redis } = require('./redis.cjs');
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const MAIN = here('../../dist/cli/main.js');
const { readSafetensors } = require(here('../../dist/formats/safetensors.js'));

const { values: flags } = parseArgs({
  options: {
    runs: { type: 'string', default: '20' },
    engine: { type: 'string', default: 'both' },
    inputs: { type: 'string', default: '1500' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean' },
  },
});
const runs = Number(flags.runs);
const inputs = Number(flags.inputs);
const ENGINES = { embedded: disturbEmbedded, queue: disturbQueue };
const engines = flags.engine === 'both' ? Object.keys(ENGINES) : [flags.engine];
if (flags.help || !(runs > 0 && inputs > 0) || !engines.every((name) => Object.hasOwn(ENGINES, name))) {
  console.log('usage: npm run test:kills -- [--runs 20] [--engine embedded|queue|both] [--inputs 1500] [--seed 1]');
  process.exit(flags.help ? 0 : 2);
}

/** What a run may take, in milliseconds: it hangs where it takes longer. */
const LIMIT = 300_000;
/** Chunks are small, so that many are under way or being kept when something is killed. */
const CHUNK = 20;

const random = new Random(Number(flags.seed));

const folder = mkdtempSync(join(tmpdir(), 'kills-'));
const running = new Set();
const servers = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL'); // and their workers end with them
  for (const redis of servers) redis.kill();
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

const text = join(folder, 'lines.txt');
const words = ['the', 'cat', 'sat', 'on', 'mat', 'a', 'dog'];
const line = (i) =>
  i % 37 === 5 ? 'cat '.repeat(30) : Array.from({ length: 1 + (i % 7) }, (_, j) => words[(i + j) % 7]).join(' ');
writeFileSync(text, Array.from({ length: inputs }, (_, i) => `${line(i)}\n`).join(''));
const RUN = [
  here('../fixtures/cli/text.pt'),
  ...['--text', text, '--tokenizer', here('../fixtures/cli/tokenizer.json'), '--buckets', '4,8,16'],
  ...['--chunk-size', String(CHUNK)],
];

/** Starts the command: its process, and its end. */
function start(...args) {
  const child = spawn(process.execPath, [MAIN, 'bulk', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  running.add(child);
  let log = '';
  child.stderr.on('data', (chunk) => (log += chunk));
  const ended = new Promise((resolve) =>
    child.on('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal, log });
    }),
  );
  return { child, ended };
}

/** The worker processes below a process. */
function workersOf(pid) {
  const list = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' }).trim().split('\n');
  return list
    .map((each) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(each))
    .filter(([, , parent, args]) => Number(parent) === pid && args.includes('bulk/worker.js'))
    .map(([, id]) => Number(id));
}

function kill(pid, signal = 'SIGKILL') {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself.
  }
}

function killWorker(pid, counts) {
  const workers = workersOf(pid);
  if (workers.length === 0) return;
  kill(workers[random.between(0, workers.length - 1)]);
  ++counts.workers;
}

/** A run by itself: workers are killed, and the process that gives them work, which then goes on with --resume. */
async function disturbEmbedded(out) {
  const counts = { workers: 0, parents: 0 };
  for (let attempt = 0, parents = random.between(1, 3); ; ++attempt) {
    const { child, ended } = start(
      ...RUN,
      '--out',
      out,
      '--workers',
      '2',
      '--threads',
      '1',
      ...(attempt ? ['--resume'] : []),
    );
    let over = false;
    const end = ended.finally(() => (over = true));
    if (attempt < parents) {
      for (let left = random.between(0, 2); left > 0 && !over; --left) {
        // On a busy machine it takes seconds until there are any.
        while (!over && workersOf(child.pid).length === 0) await wait(100);
        await wait(random.between(200, 1200));
        if (!over) killWorker(child.pid, counts);
      }
      await wait(random.between(50, 1500));
      if (!over) {
        ++counts.parents;
        child.kill('SIGKILL');
      }
    }
    const { code, signal, log } = await end;
    if (code === 0) return counts;
    if (signal !== 'SIGKILL') throw new Error(`ended with ${code}: ${log}`);
  }
}

/** A run by a queue: whoever is killed is started again, until all of them say that it is done. */
async function disturbQueue(out) {
  const counts = { workers: 0, parents: 0, redis: 0, submitters: 0, stopped: 0 };
  const redis = await Redis.start();
  servers.add(redis);
  try {
    const queue = ['--queue', redis.url, '--out', out];
    for (let attempt = 0; ; ++attempt) {
      const { child, ended } = start('submit', ...RUN, ...queue, ...(attempt ? ['--resume'] : []));
      if (attempt === 0) {
        const timer = setTimeout(() => child.kill('SIGKILL'), random.between(100, 700));
        ended.finally(() => clearTimeout(timer));
      }
      const { code, signal, log } = await ended;
      if (signal === 'SIGKILL') ++counts.submitters;
      else if (code !== 0) throw new Error(`submit ended with ${code}: ${log}`);
      // Once the run is written down, it is as good as submitted.
      if (code === 0 || (existsSync(join(out, 'manifest.json')) && random.between(0, 1))) break;
    }
    const parents = new Map();
    let disturbing = true;
    const work = async (number) => {
      for (;;) {
        const { child, ended } = start('work', ...queue, '--workers', '1', '--threads', '1', '--stalled-after', '1s');
        parents.set(number, child);
        const { code, signal, log } = await ended;
        if (code === 0) return;
        // Started while Redis is away, it ends at once: whoever runs it starts it again.
        const isAway = /Expected a Redis/.test(log);
        if (isAway) await wait(200);
        else if (signal !== 'SIGKILL') throw new Error(`work ended with ${code}: ${log}`);
      }
    };
    const disturb = async () => {
      for (let left = random.between(3, 6); left > 0 && disturbing; --left) {
        await wait(random.between(200, 1500));
        const parent = parents.get(random.between(0, 1));
        if (!parent || !disturbing) continue;
        const what = random.between(0, 3);
        if (what === 0) killWorker(parent.pid, counts);
        if (what === 1) {
          ++counts.parents;
          parent.kill('SIGKILL');
        }
        if (what === 2) {
          ++counts.redis;
          await redis.kill();
          await wait(random.between(0, 800));
          await redis.restart();
        }
        if (what === 3) {
          // Taken for lost, its chunk goes to the other; then it goes on as if nothing had been.
          ++counts.stopped;
          kill(parent.pid, 'SIGSTOP');
          await wait(2500);
          kill(parent.pid, 'SIGCONT');
        }
      }
    };
    await Promise.all([Promise.all([work(0), work(1)]).finally(() => (disturbing = false)), disturb()]);
    return counts;
  } finally {
    await redis.end();
    servers.delete(redis);
  }
}

/** What a run left: each tensor's bytes by name, how often each input is there, those that failed. */
async function resultsOf(out) {
  const found = new Map();
  const tensors = new Map();
  const add = (index) => found.set(index, (found.get(index) ?? 0) + 1);
  for (const name of readdirSync(out).filter((each) => each.endsWith('.safetensors'))) {
    const { entries, metadata } = await readSafetensors(join(out, name));
    for (const index of Object.keys(metadata)) add(Number(index));
    for (const entry of entries) tensors.set(entry.name, Buffer.from(entry.data.buffer).toString('base64'));
  }
  const failed = existsSync(join(out, 'failed.jsonl'))
    ? readFileSync(join(out, 'failed.jsonl'), 'utf8').trim().split('\n')
    : [];
  for (const each of failed) add(JSON.parse(each).index);
  const parts = readdirSync(join(out, '.scratch'));
  return { found, tensors, failed: failed.length, parts };
}

async function undisturbed() {
  const out = join(folder, 'undisturbed');
  const { code, log } = await start(...RUN, '--out', out, '--workers', '2', '--threads', '1').ended;
  if (code !== 0) throw new Error(`the undisturbed run ended with ${code}: ${log}`);
  return await resultsOf(out);
}

function judge({ found, tensors, failed }, expected) {
  const all = Array.from({ length: inputs }, (_, i) => i);
  return {
    lost: all.filter((i) => !found.has(i)).length,
    twice: [...found.values()].filter((count) => count > 1).length,
    different: [...expected.tensors].filter(([name, bytes]) => tensors.get(name) !== bytes).length,
    others: tensors.size - expected.tensors.size + failed - expected.failed,
  };
}

const expected = await undisturbed();
let bad = 0;
const totals = {};
for (const engine of engines) {
  if (engine === 'queue' && !hasRedis) {
    console.log('queue: left out, since there is no redis-server');
    continue;
  }
  for (let run = 1; run <= runs; ++run) {
    const out = join(folder, `${engine}-${run}`);
    const begun = Date.now();
    const limit = setTimeout(() => {
      console.error(`${engine} ${run}: not done after ${LIMIT / 1000} s`);
      process.exit(1);
    }, LIMIT);
    const counts = await ENGINES[engine](out);
    clearTimeout(limit);
    const judged = judge(await resultsOf(out), expected);
    const right = Object.values(judged).every((count) => count === 0);
    if (!right) ++bad;
    totals[engine] ??= { runs: 0 };
    ++totals[engine].runs;
    for (const [name, count] of Object.entries({ ...counts, ...judged }))
      totals[engine][name] = (totals[engine][name] ?? 0) + count;
    const killed = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
    const seconds = Math.round((Date.now() - begun) / 1000);
    console.log(`${engine} ${run}: ${right ? 'right' : JSON.stringify(judged)}; ${killed.join(', ')}; ${seconds} s`);
    rmSync(out, { recursive: true });
  }
}
console.log(`${inputs} inputs a run, ${expected.failed} of them bad: ${JSON.stringify(totals)}`);
process.exit(bad > 0 ? 1 : 0);
