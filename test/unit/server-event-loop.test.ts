import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseInferRequest } from '../../lib/server/infer-request';
import { encodeResponse } from '../../lib/server/infer-response';
import { loopTurn } from '../../lib/server/loop-turn';
import { RequestParser } from '../../lib/server/request-parser';
import { until } from './server-fixtures';

/** The longest that the event loop was kept from its timers while something went on, and what that gave; in milliseconds. */
async function longestDelay<Result>(task: () => Promise<Result>): Promise<{ delay: number; result: Result }> {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  const result = await task();
  histogram.disable();
  return { delay: histogram.max / 1e6, result };
}

function time<Result>(task: () => Result): { duration: number; result: Result } {
  const start = performance.now();
  const result = task();
  return { duration: performance.now() - start, result };
}

const COUNT = 2 ** 19;
const BODY = JSON.stringify({
  inputs: [
    { name: 'x', datatype: 'FP32', shape: [COUNT], data: Array.from({ length: COUNT }, (_, i) => i / 7) },
    { name: 'text', datatype: 'BYTES', shape: [2], data: ['a', 'é'] },
  ],
  parameters: { attention: { layers: [-1] } },
});
const body = () => Buffer.from(BODY);

test('long bodies are parsed while the event loop goes on, and give what they give on it', async () => {
  const parser = new RequestParser({ bodyLimit: 2 ** 26, timeLimit: 60_000 });
  const { duration, result: expected } = time(() => parseInferRequest(body(), undefined));
  await parser.parse(body(), undefined); // starts the thread
  const given = body();
  const { delay, result } = await longestDelay(() => parser.parse(given, undefined));
  await parser.end();
  expect(delay).toBeLessThan(duration / 2);
  expect([...result.inputs.keys()]).toEqual([...expected.inputs.keys()]);
  const [own, other] = [result, expected].map(({ inputs }) => inputs.get('x') as { bytes: Uint8Array });
  expect(Buffer.compare(own?.bytes as Uint8Array, other?.bytes as Uint8Array)).toBe(0);
  expect(result.inputs.get('text')).toEqual(expected.inputs.get('text'));
  expect({ ...result, inputs: undefined }).toEqual({ ...expected, inputs: undefined });
});

test('a body that takes longer than its time ends with its thread, and the next has another', async () => {
  const limits = { bodyLimit: 2 ** 26, timeLimit: 1 };
  const parser = new RequestParser(limits);
  await expect(parser.parse(body(), undefined)).rejects.toMatchObject({ code: 'ERR_TIME_LIMIT' });
  limits.timeLimit = 60_000;
  // Refused while that thread ends.
  await until(async () => await parser.parse(body(), undefined).then(Boolean, () => false));
  await parser.end();
}, 120_000);

test('long answers are written in many turns of the event loop', async () => {
  const tensor = { dtype: 'float32', shape: [COUNT], bytes: new Uint8Array(4 * COUNT).fill(61) } as const;
  const outputs = [{ name: 'output', tensor: { ...tensor, shape: [COUNT] } }];
  const start = performance.now();
  const { delay, result } = await longestDelay(() =>
    encodeResponse({ model_name: 'echo', model_version: '1' }, outputs, { binary: false }),
  );
  expect(delay).toBeLessThan((performance.now() - start) / 4);
  const { outputs: written } = JSON.parse(Buffer.concat(result.json).toString());
  expect(written[0].data.length).toBe(COUNT);
  expect(new Set(written[0].data)).toEqual(new Set([new Float32Array(tensor.bytes.buffer)[0]]));
});

test('what comes at once is shared out among turns, first come first served', async () => {
  const order: number[] = [];
  let turns = 0;
  let going = true;
  const count = (): void => {
    ++turns;
    if (going) setImmediate(count);
  };
  setImmediate(count);
  await Promise.all(
    Array.from({ length: 40 }, async (_, i) => {
      await loopTurn();
      order.push(i);
      const start = performance.now();
      while (performance.now() - start < 1);
    }),
  );
  going = false;
  expect(order).toEqual(Array.from({ length: 40 }, (_, i) => i));
  expect(turns).toBeGreaterThan(8);
});
