import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { ending, runChild } from './child.mjs';

/** What nvidia-smi answers, or null. */
function smi(query) {
  const result = spawnSync('nvidia-smi', [`--query-gpu=${query}`, '--format=csv,noheader,nounits', '--id=0'], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  return result.status === 0 ? result.stdout.trim() : null;
}

export function describeGpu() {
  return smi('name,driver_version,memory.total');
}

/** Watches the memory in use on the device, as nvidia-smi samples it; a context and the allocator's cache count with it. */
function watchMemory() {
  const child = spawn(
    'nvidia-smi',
    ['--query-gpu=memory.used', '--format=csv,noheader,nounits', '--id=0', '-lms', '50'],
    {
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  let peak = null;
  child.on('error', () => {});
  child.stdout.on('data', (chunk) => {
    for (const line of String(chunk).split('\n')) if (Number(line) > 0) peak = Math.max(peak ?? 0, Number(line));
  });
  return {
    take() {
      const value = peak;
      peak = null;
      return value === null ? null : value * 2 ** 20;
    },
    stop: () => child.kill(),
  };
}

/**
 * Takes the times of the models in `models`, each length in a child process of its own.
 * @param ways the names of those to take; all by default
 * @param suffix what follows the name of a model in the rows
 * @returns rows `{ model, tokens, way, median, least, most, ratio, bytes, overCopy, peak }`, times in milliseconds
 */
export async function runFigures({ here, node, env, device, models, lengths, deadline, log, ways, suffix = '' }) {
  const described = JSON.parse(readFileSync(join(models, 'models.json'), 'utf8'));
  const total = Number(smi('memory.total')) * 2 ** 20;
  const memory = device === 'cpu' ? totalmem() / 4 : total;
  const hostMemory = device === 'cpu' ? totalmem() / 4 : Math.min(12e9, totalmem() / 4);
  const rows = [];
  const problems = [];
  // Short ones of both models first: what time is left decides how far the long ones come.
  for (const tokens of lengths) {
    for (const [file, model] of Object.entries(described)) {
      const name = `${file}${suffix}`;
      const left = deadline() - Date.now();
      if (left < 5000) {
        rows.push({ model: name, tokens, way: 'everything', skipped: 'the time was over' });
        continue;
      }
      const watch = device === 'cpu' ? null : watchMemory();
      let current;
      const onLine = (message) => {
        if (message.way) {
          current = message.way;
          watch?.take();
        } else if (message.bandwidth) {
          rows.push({ model: name, tokens, way: 'copy', bandwidth: message.bandwidth });
        } else if (message.done) {
          const { resident, ...done } = message.done;
          rows.push({ model: name, tokens, ...done, peak: watch ? watch.take() : (resident ?? null) });
          current = undefined;
        }
        return undefined;
      };
      const path = join(models, `${file}.pt`);
      const what = JSON.stringify({
        ...{ device, path, model, tokens, memory, hostMemory, ways },
        seconds: device === 'cpu' ? 0.5 : 1.5,
      });
      const milliseconds = Math.min(left, 90_000);
      const script = join(here, 'figures-of-one.mjs');
      const outcome = await runChild(node, ['--expose-gc', script, what], { env, log, milliseconds, onLine });
      watch?.stop();
      if (outcome.code === 0) continue;
      const why = `${ending(outcome, `${(milliseconds / 1000).toFixed(0)} s`)} ${outcome.late ? '' : outcome.tail.slice(-600)}`;
      rows.push({ model: name, tokens, way: current ?? '(between two)', failed: why });
    }
  }
  for (const row of rows)
    if (row.failed) problems.push(`${row.model}, ${row.tokens} tokens, ${row.way}: ${row.failed}`);
  return { rows, problems };
}
