// Runs the checks of one file, those from a place on, and says on descriptor 3 what it does: a line of JSON ahead of each
// check and one behind it, so that whoever waits knows where it was when it crashed or hung.
//
//     node worker.mjs FILE '{"device": "cuda", "short": false, "share": 0, "of": 1, "from": 0, "count": null}'

import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** How many checks of a file a short run takes at most, evenly spread. */
const SHORT = 20;

const [file, json] = process.argv.slice(2);
const { device, short, share, of, from, count } = JSON.parse(json);
const tell = (message) => writeSync(3, `${JSON.stringify(message)}\n`);
const { Skipped, torch } = await import('./compare.mjs');
if (device === 'cpu') torch.setNumThreads(1); // tensors this small are slower on more threads

const module = await import(pathToFileURL(join(import.meta.dirname, 'checks', file)).href);
const stride = short ? Math.ceil(module.checks.length / SHORT) : 1;
const checks = module.checks.filter((_, i) => i % stride === 0).filter((_, i) => i % of === share);
tell({ plan: checks.map(({ name }) => name), isolated: module.isolated ?? false, alone: module.alone ?? false });
if (checks.length === 0) throw new Error(`${file} has no checks`);

process.removeAllListeners('warning'); // hooks that a run doesn't reach are part of the fixtures
for (const [index, { name, run, cudaOnly }] of checks.entries()) {
  if (index < from || (count !== null && index >= from + count)) continue;
  tell({ start: index });
  const begun = performance.now();
  let outcome = { status: 'passed', detail: '' };
  if (cudaOnly && device === 'cpu') {
    outcome = { status: 'skipped', detail: 'only makes sense on CUDA' };
  } else {
    try {
      await run({ device });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      outcome = { status: error instanceof Skipped ? 'skipped' : 'failed', detail: message.slice(0, 2000) };
    }
  }
  tell({ end: index, name, milliseconds: Math.round(performance.now() - begun), ...outcome });
}
process.exit(0);
