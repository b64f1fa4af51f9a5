// The peers' side of what they speak with the benchmark, for those that are Node programs.
//
// A request is a line of words with tabs between them: `load WAY`, `run WAY BATCH TOKENS COUNT`,
// `memory WAY BATCH TOKENS COUNT`, `output WAY BATCH TOKENS`. An answer is a line of JSON: {}, { ms } of all runs
// together, { before, peak, after, … } in bytes, { values } of the output's beginning; { error } where it failed. The
// first line, unasked, is { ready: versions } or { missing: reason }.
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { collectGarbage, peak, resetPeak, resultMemory } from '../process-memory.mjs';

const answer = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

/** Says that this peer can't be measured here, and why. */
export function missing(reason) {
  answer({ missing: reason });
}

/**
 * Answers requests until there are no more.
 *
 * @param prepare `(way, batch, tokens)` to a function that runs once; the model is loaded when it is first asked for
 * @param output `(way, batch, tokens)` to the first numbers of the output
 */
export async function serve({ versions, load, prepare, output }) {
  const tasks = {
    load: async (way) => {
      await load(way);
      return {};
    },
    run: async (way, batch, tokens, count) => {
      const once = await prepare(way, batch, tokens);
      const start = performance.now();
      for (let run = 0; run < count; run++) await once();
      return { ms: performance.now() - start };
    },
    memory: async (way, batch, tokens, count) => {
      const once = await prepare(way, batch, tokens);
      await collectGarbage();
      const before = process.memoryUsage.rss();
      const idleBefore = resultMemory();
      resetPeak();
      const start = performance.now();
      for (let run = 0; run < count; run++) await once();
      const ms = performance.now() - start;
      const most = peak();
      await collectGarbage();
      const idle = resultMemory();
      return {
        ms,
        before,
        peak: most,
        after: process.memoryUsage.rss(),
        ...(idle === null ? {} : { idleBefore, idle }),
      };
    },
    output: async (way, batch, tokens) => ({ values: await output(way, batch, tokens) }),
  };

  answer({ ready: versions });
  for await (const line of createInterface({ input: process.stdin })) {
    const [task, way, ...numbers] = line.split('\t');
    try {
      answer(await tasks[task](way, ...numbers.map(Number)));
    } catch (error) {
      answer({ error: error.message });
    }
  }
}
