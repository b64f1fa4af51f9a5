import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inputData, WIDTHS } from '../models.mjs';

const require = createRequire(import.meta.url);
const { bulk } = require('../../dist/bulk/index.js');
const { writeSafetensors } = require('../../dist/formats/safetensors.js');
const { SLEEPING_THREADS } = require('../../dist/libtorch/wait-policy.js');
const { hasRedis, Redis } = require('../../test/kills/redis.cjs');

export const about =
  'a bulk run on all cores beside a plain loop of captureMany in one process, and what a chunk costs';
export const models = ['bert.pt', 'tiny.pt'];

const LOOP = fileURLToPath(new URL('../peers/capture-loop.mjs', import.meta.url));
const TOKENS = 64;
const CHUNK = 32;
/** Of a plain loop's inputs a second, at least. */
const LEAST = 0.95;
/** What a loop over the inputs is to take, in milliseconds: their number follows. */
const DURATION = 5000;
const MOST_INPUTS = 4096;
/** Chunks of one input that tell what a chunk costs. */
const CHUNKS = 96;

/** Writes so many files of the same input; returns their folder. */
async function makeInputs(folder, file, count) {
  mkdirSync(folder);
  const width = WIDTHS[file];
  const shape = width === 0 ? [1, TOKENS] : [1, TOKENS, width];
  const name = (i) => join(folder, `${String(i).padStart(6, '0')}.safetensors`);
  const entry = { name: '0', dtype: width === 0 ? 'int64' : 'float32', shape, data: inputData(width, 1, TOKENS) };
  await writeSafetensors(name(0), [entry]);
  for (let i = 1; i < count; ++i) cpSync(name(0), name(i));
  return folder;
}

/** Milliseconds that an input takes in the plain loop, once the model is warm. */
function loopTime(model, inputs, out, threads, count, more = {}) {
  const args = [LOOP, model, inputs, out, String(threads), String(CHUNK)];
  const env = { ...process.env, ...more };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env });
  if (status !== 0) throw new Error(stderr);
  return Number(stdout) / count;
}

/** Milliseconds that a bulk run takes, its start and all. */
async function bulkTime(options) {
  rmSync(options.out, { recursive: true, force: true });
  const start = performance.now();
  await bulk({ capture: { topK: 10 }, chunkSize: CHUNK, ...options, inputs: join(options.inputs, '*') });
  return performance.now() - start;
}

/**
 * A loop before and behind, so that what else the machine does meets both; the one behind with threads that sleep while they wait,
 * as those of a bulk run do. Two sizes, so that the time of the start falls out.
 */
async function compare(file, model, folder, { cores, quick }) {
  const few = await makeInputs(join(folder, 'few'), file, CHUNK);
  const estimate = loopTime(model, few, join(folder, 'loop'), cores, CHUNK);
  const step = CHUNK * cores;
  const wanted = quick ? step : Math.min(MOST_INPUTS, DURATION / estimate);
  const count = Math.max(1, Math.round(wanted / step)) * step;
  const [once, twice] = [
    await makeInputs(join(folder, 'once'), file, count),
    await makeInputs(join(folder, 'twice'), file, 2 * count),
  ];
  const spinning = loopTime(model, once, join(folder, 'loop'), cores, count);
  const out = join(folder, 'results');
  const times = [await bulkTime({ model, inputs: once, out }), await bulkTime({ model, inputs: twice, out })];
  const sleeping = loopTime(model, once, join(folder, 'loop'), cores, count, SLEEPING_THREADS);
  const each = (times[1] - times[0]) / count;
  const ratio = Math.min(spinning, sleeping) / each;
  return { file, count, spinning, sleeping, each, start: times[0] - each * count, ratio };
}

/** What a chunk costs beside its inputs: chunks of one beside one of all. */
async function chunkCost(options) {
  const whole = await bulkTime({ ...options, chunkSize: CHUNKS });
  const single = await bulkTime({ ...options, chunkSize: 1 });
  return (single - whole) / (CHUNKS - 1);
}

export async function run({ report, models: files, quick }) {
  const cores = availableParallelism();
  const rows = [];
  for (const file of models.filter((name) => files.has(name))) {
    const folder = mkdtempSync(join(tmpdir(), 'bench-bulk-'));
    try {
      rows.push(await compare(file, files.path(file), folder, { cores, quick }));
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  const lines = rows.map(({ file, spinning, sleeping, each, start, ratio }) => [
    file,
    spinning.toFixed(2),
    sleeping.toFixed(2),
    each.toFixed(2),
    ratio.toFixed(2),
    (start / 1000).toFixed(1),
  ]);
  const head = ['captureMany, ms an input', 'its threads sleeping', 'bulk', 'bulk × the faster loop', 'start, s'];
  report.table(`${TOKENS} tokens, topK 10, ${cores} cores`, head, lines, { rows });
  for (const { file, ratio } of rows) report.goal(`${file}: bulk × the faster loop`, ratio, LEAST, { atLeast: true });
  if (files.has('tiny.pt')) await chunkCosts(report, files.path('tiny.pt'));
}

async function chunkCosts(report, model) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-bulk-'));
  let redis;
  try {
    const inputs = await makeInputs(join(folder, 'inputs'), 'tiny.pt', CHUNKS);
    const options = { model, inputs, out: join(folder, 'results'), workers: 1 };
    const costs = [['embedded', await chunkCost(options)]];
    if (hasRedis) {
      redis = await Redis.start();
      costs.push(['queue, Redis with appendfsync always', await chunkCost({ ...options, queue: redis.url })]);
    } else report.leftOut('the queue', 'there is no redis-server');
    const lines = costs.map(([name, milliseconds]) => [name, milliseconds.toFixed(1)]);
    report.table('One worker: a chunk beside its inputs', ['ms'], lines, { costs: Object.fromEntries(costs) });
  } finally {
    await redis?.end();
    rmSync(folder, { recursive: true });
  }
}
