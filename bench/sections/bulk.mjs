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

export const about =
  'a bulk run on all cores beside a plain loop of captureMany in one process, and what a chunk costs';
export const models = ['bert.pt', 'encoder.pt', 'tiny.pt'];

const LOOP = fileURLToPath(new URL('../peers/capture-loop.mjs', import.meta.url));
const TOKENS = 64;
const SHARD = 64;
/** Of a plain loop's inputs a second, at least. */
const LEAST = 0.95;

/** Writes so many files of the same input. */
async function makeInputs(folder, file, count) {
  mkdirSync(folder);
  const width = WIDTHS[file];
  const shape = width === 0 ? [1, TOKENS] : [1, TOKENS, width];
  const name = (i) => join(folder, `${String(i).padStart(6, '0')}.safetensors`);
  const entry = { name: '0', dtype: width === 0 ? 'int64' : 'float32', shape, data: inputData(width, 1, TOKENS) };
  await writeSafetensors(name(0), [entry]);
  for (let i = 1; i < count; ++i) cpSync(name(0), name(i));
}

/** Milliseconds that a bulk run takes, its start and all. */
async function bulkTime(options) {
  rmSync(options.out, { recursive: true, force: true });
  const start = performance.now();
  await bulk({ capture: { topK: 10 }, chunkSize: SHARD, ...options });
  return performance.now() - start;
}

export async function run({ report, models: files, quick }) {
  const cores = availableParallelism();
  const rows = [];
  for (const file of models.filter((name) => files.has(name))) {
    const folder = mkdtempSync(join(tmpdir(), 'bench-bulk-'));
    try {
      const count = (quick ? 1 : file === 'tiny.pt' ? 40 : 8) * SHARD * cores;
      await makeInputs(join(folder, 'once'), file, count);
      await makeInputs(join(folder, 'twice'), file, 2 * count);
      const model = files.path(file);
      const loop = spawnSync(
        process.execPath,
        [LOOP, model, join(folder, 'once'), join(folder, 'loop'), String(cores), String(SHARD)],
        {
          encoding: 'utf8',
        },
      );
      if (loop.status !== 0) throw new Error(loop.stderr);
      const alone = Number(loop.stdout) / count;
      // Of two sizes, so that the time of the start falls out.
      const out = join(folder, 'results');
      const [once, twice] = [
        await bulkTime({ model, inputs: join(folder, 'once/*'), out }),
        await bulkTime({ model, inputs: join(folder, 'twice/*'), out }),
      ];
      const each = (twice - once) / count;
      rows.push({ file, count, alone, each, start: once - each * count, ratio: alone / each });
      if (file === 'tiny.pt')
        await chunkCost(report, { model, inputs: join(folder, 'once/*'), out, workers: 1 }, count);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
  const lines = rows.map(({ file, alone, each, start, ratio }) => [
    file,
    alone.toFixed(2),
    each.toFixed(2),
    ratio.toFixed(2),
    (start / 1000).toFixed(1),
  ]);
  const head = ['captureMany, ms an input', 'bulk', 'bulk × captureMany', 'start, s'];
  report.table(`${TOKENS} tokens, topK 10, ${cores} cores`, head, lines, { rows });
  for (const { file, ratio } of rows) report.goal(`${file}: bulk × captureMany`, ratio, LEAST, { atLeast: true });
}

/** What a chunk costs beside its inputs: chunks of one beside chunks of many. */
async function chunkCost(report, options, count) {
  const whole = await bulkTime({ ...options, chunkSize: count });
  const single = await bulkTime({ ...options, chunkSize: 1 });
  const milliseconds = (single - whole) / (count - 1);
  report.table('one worker', ['ms a chunk'], [['embedded engine', milliseconds.toFixed(2)]], { milliseconds });
}
