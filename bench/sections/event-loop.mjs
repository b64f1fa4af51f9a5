import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { milliseconds, quantile } from '../measure.mjs';
import { inputsOf } from '../peers/start.mjs';

export const about = 'how long the event loop and fs are kept waiting while a model runs';
export const models = ['encoder.pt'];

const LIMIT = 10;

/** Calls `work` until so many milliseconds have passed. */
async function during(duration, work) {
  const start = performance.now();
  do await work();
  while (performance.now() - start < duration);
}

/** The delay of the event loop while something goes on. */
async function loopDelay(activity) {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await activity();
  delay.disable();
  return { median: delay.percentile(50) / 1e6, p99: delay.percentile(99) / 1e6, most: delay.max / 1e6 };
}

/** The time that a small file takes to be read while something goes on. */
async function readDelay(file, activity) {
  const taken = [];
  let over = false;
  const reading = (async () => {
    while (!over) {
      taken.push(await milliseconds(() => readFile(file)));
      await sleep(1);
    }
  })();
  await activity();
  over = true;
  await reading;
  return { median: quantile(taken, 0.5), p99: quantile(taken, 0.99), most: quantile(taken, 1) };
}

export async function run({ report, models: files, quick }) {
  if (!files.has('encoder.pt')) return;
  const duration = quick ? 200 : 2000;
  const model = await files.load('encoder.pt');
  const input = quick ? inputsOf('encoder.pt', 1, 128) : inputsOf('encoder.pt', 8, 512); // about a second
  const forward = async () => (await model.forward(input)).dispose();
  for (let run = 0; run < 3; run++) await forward();
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const file = join(folder, 'file');
  writeFileSync(file, Buffer.alloc(65536));

  const idle = () => sleep(duration);
  const busy = () => during(duration, forward);
  const rows = [
    { name: 'event loop, idle', ...(await loopDelay(idle)) },
    { name: 'event loop, forwards running', ...(await loopDelay(busy)) },
    { name: 'fs.readFile, idle', ...(await readDelay(file, idle)) },
    { name: 'fs.readFile, forwards running', ...(await readDelay(file, busy)) },
  ];
  rmSync(folder, { recursive: true });
  model.dispose();
  const digits = (value) => value.toFixed(2);
  const lines = rows.map(({ name, median, p99, most }) => [name, digits(median), digits(p99), digits(most)]);
  report.table('Delay in milliseconds', ['median', '99th percentile', 'most'], lines, { rows });
  const goal = { unit: ' ms', digits: 1 };
  report.goal('event loop, 99th percentile of its delay while forwards run', rows[1].p99, LIMIT, goal);
}
