// Does one section of test:leaks, and prints what was measured along the way as JSON.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { sections } from './sections.mjs';

const [name, times] = [process.argv[2], Number(process.argv[3])];
const POINTS = 10;
/** The part of all calls that comes before the first measurement. */
const WARM_UP_POINTS = 2;

process.on('warning', () => {});
const act = await sections[name].start();
const measurements = [];
for (let point = 0; point < POINTS + WARM_UP_POINTS; point++) {
  for (let i = 0; i < times / (POINTS + WARM_UP_POINTS); i++) await act(i);
  if (point >= WARM_UP_POINTS) measurements.push(await figures());
}
console.log(JSON.stringify(measurements));
process.exit(0);

/** What the operating system says of this process once everything that can be collected is. */
async function figures() {
  for (let i = 0; i < 4; i++) {
    globalThis.gc();
    await delay(50);
  }
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8');
  const bytes = (field) => 1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(rollup)[1]);
  return {
    resident: bytes('Rss'),
    dirty: bytes('Private_Dirty'),
    threads: readdirSync('/proc/self/task').length,
    files: readdirSync('/proc/self/fd').length,
  };
}
