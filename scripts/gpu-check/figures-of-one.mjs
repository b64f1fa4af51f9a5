// Takes the times of one model at one length, and tells them on descriptor 3, way by way.
//
//     node --expose-gc figures-of-one.mjs '{"device", "path", "model": {"layers", "heads", "width", "dtype"}, "tokens",
//                                           "memory", "hostMemory", "seconds", "ways"}'

import { writeSync } from 'node:fs';
import { noise } from './cases.mjs';
import { tensorsIn, torch } from './compare.mjs';

const { ScriptModule, Tensor } = torch;
const { device, path, model: sizes, tokens, memory, hostMemory, seconds, ways } = JSON.parse(process.argv[2]);
const tell = (message) => writeSync(3, `${JSON.stringify(message)}\n`);
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

/** Waits until everything that was queued before a tensor's element is computed. */
function synchronize(tensor) {
  tensor.reshape([-1]).select(0, 0).item();
}

async function time(run) {
  globalThis.gc?.();
  const begun = performance.now();
  const clean = await run();
  const milliseconds = performance.now() - begun;
  clean?.();
  return milliseconds;
}

/** Bytes a second of a copy within the device, and from it to the CPU: size of the copy over its time. */
async function bandwidths() {
  const elements = device === 'cpu' ? 2 ** 22 : 2 ** 28;
  const source = Tensor.zeros([elements], { device });
  const inside = [];
  const outside = [];
  for (let i = 0; i < 8; ++i) {
    inside.push(
      await time(() => {
        const copy = source.add(0);
        synchronize(copy);
        return () => copy.dispose();
      }),
    );
  }
  const part = source.narrow(0, 0, elements / 4);
  for (let i = 0; i < 8; ++i) {
    // data() of what lies on the CPU copies nothing.
    outside.push(await time(async () => void (device === 'cpu' ? part.add(0) : await part.data())));
  }
  part.dispose();
  source.dispose();
  return {
    inside: (4 * elements) / (median(inside.slice(2)) / 1000),
    outside: elements / (median(outside.slice(2)) / 1000),
  };
}

const { layers, heads, width, dtype } = sizes;
const square = layers * tokens * tokens * 4;
const WAYS = [
  {
    way: 'one row',
    options: { queries: [tokens - 1], device: 'same' },
    bytes: layers * heads * tokens * 4,
    to: 'inside',
  },
  { way: 'top 8', options: { topK: 8, device: 'same' }, bytes: layers * heads * tokens * 8 * 12, to: 'inside' },
  { way: 'mean', options: { averageHeads: true, device: 'same' }, bytes: square, to: 'inside' },
  { way: 'all, on the device', options: { device: 'same' }, bytes: heads * square, to: 'inside' },
  { way: 'all, to the CPU', options: {}, bytes: heads * square, to: 'outside' },
];

const speeds = await bandwidths();
tell({ bandwidth: speeds });
if (device === 'cpu') torch.setNumThreads(1); // the models are tiny there
const model = await ScriptModule.load(path, { device });
const inputs = [noise([1, tokens, width], { dtype }).to({ device })];

const plain = () =>
  time(async () => {
    const output = await model.forward(inputs);
    synchronize(output);
    return () => output.dispose();
  });
const capture = (options) =>
  time(async () => {
    const { output, attentions } = await model.captureAttention(inputs, options);
    for (const { weights } of attentions) if (weights.device !== 'cpu') synchronize(weights);
    synchronize(output);
    return () => {
      for (const tensor of tensorsIn([output, attentions.map(({ weights, keys }) => [weights, keys ?? null])]))
        tensor.dispose();
    };
  });
const described = (times) => ({ median: median(times), least: Math.min(...times), most: Math.max(...times) });
const peak = () => process.resourceUsage().maxRSS * 1024;

tell({ way: 'plain' });
for (let i = 0; i < 4; ++i) await plain();
const alone = [];
for (let i = 0; i < 7; ++i) alone.push(await plain());
tell({ done: { way: 'plain', ...described(alone), runs: alone.length, resident: peak() } });

for (const { way, options, bytes, to } of WAYS) {
  if (ways && !ways.includes(way)) continue;
  // Beside what stays, one or two layers are under way, with scores in float32.
  const onDevice = (to === 'inside' ? bytes : 0) + (way.startsWith('all') ? (3 * bytes) / layers : 0);
  const reason =
    onDevice > 0.75 * memory
      ? `needs ${(onDevice / 1e9).toFixed(0)} GB of the device's ${(memory / 1e9).toFixed(0)}`
      : to === 'outside' && bytes > hostMemory
        ? `${(bytes / 1e9).toFixed(0)} GB of weights: takes too long, or too much of the CPU's memory`
        : undefined;
  if (reason) {
    tell({ done: { way, skipped: reason, bytes } });
    continue;
  }
  tell({ way });
  try {
    for (let i = 0; i < 2; ++i) await capture(options);
    const [with_, without] = [[], []];
    const end = performance.now() + seconds * 1000;
    // By turns, so that both see the same clocks and the same neighbours.
    while (with_.length < 3 || (with_.length < 15 && performance.now() < end)) {
      without.push(await plain());
      with_.push(await capture(options));
    }
    const beyond = median(with_) - median(without);
    tell({
      done: {
        ...{ way, bytes, ...described(with_), runs: with_.length, resident: peak() },
        ratio: median(with_) / median(without),
        overCopy: beyond / 1000 / (bytes / speeds[to]),
      },
    });
  } catch (error) {
    tell({ done: { way, bytes, failed: error.message.slice(0, 500) } });
  }
}
process.exit(0);
