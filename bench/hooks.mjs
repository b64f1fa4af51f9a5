// What hooks cost: node bench/hooks.mjs (needs python3 with torch, to make its models once).
// Each row is a ratio to the plain run of the same file in this very process, the two taken in turns.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HookedModel, ScriptModule, Tensor, versions } from '../dist/index.js';

const here = dirname(fileURLToPath(import.meta.url));
const folder = join(here, '..', '.cache', 'bench');
const rounds = Number(process.argv[2] ?? 40);

const models = { scripted: 'hooks_scripted.pt', traced: 'hooks_traced.pt' };
if (Object.values(models).some((file) => !existsSync(join(folder, file)))) {
  execFileSync('python3', [join(here, 'make_hook_model.py'), folder], { stdio: 'inherit' });
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), low: quantile(sorted, 0.25), high: quantile(sorted, 0.75) };
}

const shown = ({ median, low, high }, digits) =>
  `${median.toFixed(digits)} (quartiles ${low.toFixed(digits)} to ${high.toFixed(digits)})`;

async function milliseconds(run) {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

/** Times of several ways to run, in turns, each behind its own preparation. */
async function interleaved(ways) {
  const times = ways.map(() => []);
  for (let round = 0; round < rounds; round++) {
    // Every way comes first, second … equally often.
    for (let i = 0; i < ways.length; i++) {
      const k = (i + round) % ways.length;
      const { prepare, run } = ways[k];
      const undo = prepare?.();
      times[k].push(await milliseconds(run));
      undo?.();
    }
  }
  return times;
}

console.log(`libtorch ${versions.libtorch}, ${rounds} rounds, 12 layers × 512, batch 1, 128 tokens`);
const x = Tensor.from(
  Float32Array.from({ length: 128 * 512 }, (_, i) => Math.sin(i)),
  { shape: [1, 128, 512] },
);

for (const [name, file] of Object.entries(models)) {
  const model = await ScriptModule.load(join(folder, file));
  const forward = () => model.forward([x]);
  const layers = Array.from({ length: 12 }, (_, i) => `layers.${i}`);
  const recorders = () => {
    const hooked = new HookedModel(model);
    for (const layer of layers) hooked.setForwardHook(layer, layer);
    return () => {
      for (const layer of layers) hooked.delHook(layer);
    };
  };
  const script = () => {
    const handles = layers.map((layer) => model.registerForwardHook(layer, () => {}));
    return () => {
      for (const handle of handles) handle.remove();
    };
  };
  const ways = [
    { run: forward },
    { run: forward },
    { prepare: recorders, run: forward },
    { prepare: script, run: forward },
    { run: () => model.forward([x], { signal: new AbortController().signal }) },
  ];
  // libtorch watches the first runs of each graph and compiles the next.
  for (let i = 0; i < 4; i++) {
    for (const { prepare, run } of ways) {
      const undo = prepare?.();
      await run();
      undo?.();
    }
  }
  const [plain, again, recorded, hooked, cancellable] = await interleaved(ways);
  const ratio = (times) => summary(times.map((time, i) => time / plain[i]));
  console.log(`\n${name}: plain ${shown(summary(plain), 1)} ms`);
  console.log(`  no hooks / plain                      ${shown(ratio(again), 3)}`);
  console.log(`  a recorder on each layer / plain      ${shown(ratio(recorded), 3)}`);
  console.log(`  a signal / plain                      ${shown(ratio(cancellable), 3)}`);
  const cost = summary(hooked.map((time, i) => (time - plain[i]) / layers.length));
  console.log(`  a JavaScript hook, of 12, per call    ${shown(cost, 3)} ms`);
  model.dispose();
}

// The cost of a call by itself, where the noise of a large model doesn't hide it.
const tiny = await ScriptModule.load(join(here, '..', 'test', 'fixtures', 'hooks', 'looped_script.pt'));
const small = Tensor.from(new Float32Array(16).fill(0.1), { shape: [1, 1, 16] });
const calls = 400; // 200 of them of the hooked module
const ways = [
  { run: () => tiny.forward([small, calls]) },
  {
    prepare: () => {
      const handle = tiny.registerForwardHook('step', () => {});
      return () => handle.remove();
    },
    run: () => tiny.forward([small, calls]),
  },
];
await interleaved(ways);
const [bare, hooked] = await interleaved(ways);
const each = summary(hooked.map((time, i) => (time - bare[i]) / (calls / 2)));
console.log(`\na JavaScript hook on a small module, per call: ${shown(each, 4)} ms`);
