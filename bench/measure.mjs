// How the benchmark measures: several ways to do the same take turns, so that whatever else the machine does meets all
// of them alike, and each is compared with what was measured in the same turn.
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

// Fewer turns say nothing about spread.
const FEWEST_TURNS = 3;

/** The value below which a share of the values lies, between two of them where it falls there. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)];
  return low + (sorted[Math.ceil(at)] - low) * (at - Math.floor(at));
}

/** Median and quartiles. */
export function summary(values) {
  return {
    median: quantile(values, 0.5),
    low: quantile(values, 0.25),
    high: quantile(values, 0.75),
    count: values.length,
  };
}

/** The quotients, turn by turn. */
export const ratios = (values, base) => values.map((value, turn) => value / base[turn]);

/** The milliseconds that an asynchronous function takes. */
export async function milliseconds(run) {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

/** Milliseconds between ways of several processes: onnxruntime's threads look for work for tens of them before they sleep. */
export const PAUSE = 60;

/**
 * Has all ways run in turns, each of them first, second … equally often.
 *
 * A way is `{ name, run, prepare? }`: `run` resolves to its milliseconds; `prepare` is called before it, unmeasured,
 * and may return a function that undoes it. One that fails is left out from there on.
 *
 * @param turns how many at most
 * @param seconds how long they may take together; at least three are taken nevertheless
 * @param warmUps unmeasured turns before: libtorch watches the first runs of a model and compiles it in the next
 * @param pause milliseconds between two ways, for the threads of the one before to go to sleep
 * @returns for each way that didn't fail its times, turn by turn; for the others the error
 */
export async function takeTurns(ways, { turns, seconds = 60, warmUps = 3, pause = 0 }) {
  const times = new Map(ways.map(({ name }) => [name, []]));
  const failures = new Map();
  const once = async ({ name, prepare, run }) => {
    if (failures.has(name)) return Number.NaN;
    try {
      if (pause) await sleep(pause);
      const undo = await prepare?.();
      try {
        return await run();
      } finally {
        await undo?.();
      }
    } catch (error) {
      failures.set(name, error);
      return Number.NaN;
    }
  };

  let estimate = 0;
  for (let turn = 0; turn < warmUps; turn++) {
    const start = performance.now();
    for (const way of ways) await once(way);
    estimate = (performance.now() - start) / 1000;
  }
  const affordable = estimate > 0 ? Math.max(FEWEST_TURNS, Math.floor(seconds / estimate)) : turns;
  const count = Math.min(turns, affordable);
  for (let turn = 0; turn < count; turn++) {
    for (let i = 0; i < ways.length; i++) {
      const way = ways[(i + turn) % ways.length];
      times.get(way.name).push(await once(way));
    }
  }
  for (const name of failures.keys()) times.delete(name);
  return { times, failures };
}

/**
 * Has ways run in turns and compares each with the first of them, and with its own `base` where it names one.
 *
 * Beside what `takeTurns` reads, a way may have `limit` (of its ratio to the first), `baseLimit` (of that to its base)
 * and `bytes`, a function that says how much its results hold. Rows for a report: `report.comparison`.
 */
export async function compare(ways, options) {
  return rowsOf(ways, await takeTurns(ways, options));
}

/** Rows for a report of what ways took in turns, as `compare` gives them. */
export function rowsOf(ways, { times, failures }) {
  const first = times.get(ways[0].name);
  return ways.map(({ name, base, limit, baseLimit, bytes }) => {
    const error = failures.get(name);
    if (error) return { name, error: error.message };
    const own = times.get(name);
    const row = { name, ms: summary(own) };
    if (first) row.ratio = summary(ratios(own, first));
    if (base && times.has(base)) Object.assign(row, { base, ratioToBase: summary(ratios(own, times.get(base))) });
    if (limit) row.limit = limit;
    if (baseLimit) row.baseLimit = baseLimit;
    const held = bytes?.();
    if (held) row.bytes = held;
    return row;
  });
}
