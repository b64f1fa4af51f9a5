import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ending, runChild } from './child.mjs';

const CHECK_SECONDS = 60;
/** Files whose checks need the machine for themselves; they come last. */
const ALONE = ['memory.mjs'];

/**
 * Runs all files of checks/, `width` at a time, each in a child process. Where a check crashes or hangs, another child
 * goes on behind it.
 * @param short a part of the checks of each file, evenly spread
 * @returns what came of each check: `{ file, name, status, detail, milliseconds }`
 */
export async function runValues({ here, device, width, only, broken, short, deadline, env, log, node }) {
  const files = readdirSync(join(here, 'checks'))
    .filter((file) => file.endsWith('.mjs') && (broken || file !== 'broken.mjs'))
    .filter((file) => !only || only.includes(file.replace('.mjs', '')));
  const results = [];
  const run = async (file) => results.push(...(await runFile(file, { here, device, short, deadline, env, log, node })));
  // Those that take longest begin first.
  const first = ['fixtures.mjs', 'hooks.mjs', 'captures.mjs'];
  const rank = (file) => (first.includes(file) ? first.indexOf(file) : first.length);
  const pending = files.filter((file) => !ALONE.includes(file)).sort((a, b) => rank(a) - rank(b));
  const work = async () => {
    for (let file = pending.shift(); file; file = pending.shift()) await run(file);
  };
  await Promise.all(Array.from({ length: width }, work));
  for (const file of files.filter((each) => ALONE.includes(each))) await run(file);
  return results;
}

async function runFile(file, { here, device, short, deadline, env, log, node }) {
  const group = file.replace('.mjs', '');
  const results = [];
  let plan;
  let isolated = false;
  let from = 0;
  while (plan === undefined || from < plan.length) {
    const left = deadline() - Date.now();
    if (left < 1000) break;
    let running;
    const begun = Date.now();
    const onLine = (message) => {
      if (message.plan) {
        plan = message.plan;
        isolated = message.isolated;
      } else if (message.start !== undefined) {
        running = message.start;
        return CHECK_SECONDS * 1000;
      } else {
        const { end, ...result } = message;
        results.push({ group, ...result });
        from = end + 1;
        running = undefined;
      }
      return undefined;
    };
    // The first child of an isolated file does one check too: nothing is known of the file before.
    const options = JSON.stringify({ device, short, from, count: isolated || group === 'errors' ? 1 : null });
    const outcome = await runChild(node, [join(here, 'worker.mjs'), file, options], {
      env,
      log,
      milliseconds: Math.max(1000, left),
      onLine,
    });
    if (outcome.code === 0 && running === undefined) continue;
    const why = `${ending(outcome, `${((Date.now() - begun) / 1000).toFixed(0)} s`)}${outcome.tail ? `; ${outcome.tail.slice(-600)}` : ''}`;
    if (running === undefined) {
      // Between two checks, or ahead of the first: nothing would be gained by beginning again.
      results.push({
        group,
        name: plan ? '(between two checks)' : '(loading)',
        status: 'failed',
        detail: why,
        milliseconds: 0,
      });
      if (plan === undefined || outcome.late) break;
      from += 1;
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
    }
  }
  for (const name of (plan ?? ['(all)']).slice(plan ? from : 0)) {
    if (plan === undefined && results.length > 0) break;
    results.push({ group, name, status: 'not run', detail: 'the time was over', milliseconds: 0 });
  }
  return results;
}
