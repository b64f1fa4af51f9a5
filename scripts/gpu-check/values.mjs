import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ending, runChild } from './child.mjs';

const CHECK_SECONDS = { cuda: 30, cpu: 60 };
/** A file in which as many checks hung is given up: the others' time is worth more. */
const HANGS = 3;
/** Files with so many checks that several children share them where there are cores for it. */
const SHARES = { 'fixtures.mjs': 4, 'hooks.mjs': 2, 'captures.mjs': 2 };
/** Files whose checks need the machine for themselves; they come last. */
const ALONE = ['memory.mjs'];

/**
 * Runs all files of checks/, `width` at a time, each in a child process. Where a check crashes or hangs, another child
 * goes on behind it.
 * @param quiet resolves when nothing else uses the device any more
 * @param short a part of the checks of each file, evenly spread
 * @returns what came of each check: `{ file, name, status, detail, milliseconds }`
 */
export async function runValues({ here, device, width, only, broken, short, deadline, quiet, env, log, node }) {
  const files = readdirSync(join(here, 'checks'))
    .filter((file) => file.endsWith('.mjs') && (broken || file !== 'broken.mjs'))
    .filter((file) => !only || only.includes(file.replace('.mjs', '')));
  const results = [];
  const run = async ({ file, share, of }) =>
    results.push(...(await runFile(file, { here, device, short, share, of, deadline, env, log, node })));
  const shared = (file) => (width >= 4 ? (SHARES[file] ?? 1) : 1);
  // Those that take longest begin first.
  const first = Object.keys(SHARES);
  const rank = (file) => (first.includes(file) ? first.indexOf(file) : first.length);
  const pending = files
    .filter((file) => !ALONE.includes(file))
    .sort((a, b) => rank(a) - rank(b))
    .flatMap((file) => Array.from({ length: shared(file) }, (_, share) => ({ file, share, of: shared(file) })));
  const work = async () => {
    for (let job = pending.shift(); job; job = pending.shift()) await run(job);
  };
  await Promise.all(Array.from({ length: width }, work));
  await quiet;
  for (const file of files.filter((each) => ALONE.includes(each))) await run({ file, share: 0, of: 1 });
  return results;
}

async function runFile(file, { here, device, short, share, of, deadline, env, log, node }) {
  const group = file.replace('.mjs', '');
  const results = [];
  let plan;
  let isolated = false;
  let from = 0;
  let hangs = 0;
  while (plan === undefined || from < plan.length) {
    const left = deadline() - Date.now();
    if (left < 1000) break;
    let running;
    const before = from;
    const begun = Date.now();
    const onLine = (message) => {
      if (message.plan) {
        plan = message.plan;
        isolated = message.isolated;
      } else if (message.start !== undefined) {
        running = message.start;
        return CHECK_SECONDS[device] * 1000;
      } else {
        const { end, ...result } = message;
        results.push({ group, ...result });
        from = end + 1;
        running = undefined;
      }
      return undefined;
    };
    // The first child of an isolated file does one check too: nothing is known of the file before.
    const options = JSON.stringify({
      device,
      short,
      share,
      of,
      from,
      count: isolated || group === 'errors' ? 1 : null,
    });
    const outcome = await runChild(node, [join(here, 'worker.mjs'), file, options], {
      env,
      log,
      milliseconds: Math.max(1000, left),
      onLine,
    });
    if (outcome.code === 0 && running === undefined) continue;
    const why = `${ending(outcome, `${((Date.now() - begun) / 1000).toFixed(0)} s`)}${outcome.tail ? `; ${outcome.tail.slice(-600)}` : ''}`;
    if (running === undefined) {
      // Ahead of the first check, between two, or at the end of the process: another goes on, unless nothing was done.
      const name = plan ? `(behind ${from > 0 ? plan[from - 1] : 'nothing'})` : '(loading)';
      results.push({ group, name, status: 'failed', detail: why, milliseconds: 0 });
      if (from === before) break;
    } else if (outcome.late && deadline() - Date.now() < 1000) {
      results.push({
        group,
        name: plan[running],
        status: 'not run',
        detail: 'the time was over while it ran',
        milliseconds: 0,
      });
      from = running + 1;
    } else {
      results.push({ group, name: plan[running], status: 'failed', detail: why, milliseconds: Date.now() - begun });
      from = running + 1;
      if (outcome.late && ++hangs === HANGS) break;
    }
  }
  for (const name of (plan ?? ['(all)']).slice(plan ? from : 0)) {
    if (plan === undefined && results.length > 0) break;
    results.push({
      group,
      name,
      status: 'not run',
      detail: hangs === HANGS ? `${HANGS} checks before it hung` : 'the time was over',
      milliseconds: 0,
    });
  }
  return results;
}
