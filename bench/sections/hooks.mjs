import { fileURLToPath } from 'node:url';
import library from '../library.mjs';
import { compare, milliseconds, summary, takeTurns } from '../measure.mjs';
import { inputsOf } from '../peers/start.mjs';
import { spread } from '../report.mjs';

export const about = 'what hooks, recorders and a signal cost';
export const models = ['encoder.pt', 'encoder_traced.pt'];

const LAYERS = 12;
const NAMES = {
  'encoder.pt': ['scripted on its fused path', 'transformer_encoder.layers'],
  'encoder_traced.pt': ['traced', 'layers'],
};
// Its module is called in a loop, as often as its second input says, half the times of the hooked one.
const LOOPED = fileURLToPath(new URL('../../test/fixtures/hooks/looped_script.pt', import.meta.url));

/** Hooks on modules, as the preparation of a way. */
const hooked = (model, names) => () => {
  const handles = names.map((name) => model.registerForwardHook(name, () => {}));
  return () => {
    for (const handle of handles) handle.remove();
  };
};

/** A recorder of each module's output. */
const recorded = (model, names) => () => {
  const recorder = new library.HookedModel(model);
  for (const name of names) recorder.setForwardHook(name, name);
  return () => {
    for (const name of names) recorder.delHook(name);
  };
};

async function layers({ report, models: files, timing, quick }, file) {
  const tokens = quick ? 16 : 128;
  const [form, prefix] = NAMES[file];
  const model = await files.load(file);
  const inputs = inputsOf(file, 1, tokens);
  const names = Array.from({ length: LAYERS }, (_, i) => `${prefix}.${i}`);
  const forward = (options) => milliseconds(async () => (await model.forward(inputs, options)).dispose());
  const ways = [
    { name: 'forward', run: () => forward() },
    { name: 'forward again', run: () => forward() },
    { name: 'a recorder on each layer', limit: 1.05, prepare: recorded(model, names), run: () => forward() },
    { name: 'a JavaScript hook on each', prepare: hooked(model, names), run: () => forward() },
    { name: 'a signal', run: () => forward({ signal: new AbortController().signal }) },
  ];
  // A program of its own runs where there are hooks: it is watched and compiled as well.
  const rows = await compare(ways, { ...timing, turns: timing.turns * 2, warmUps: timing.warmUps + 1 });
  report.comparison(`${LAYERS} layers × 512, ${form}, ${tokens} tokens`, rows);
  model.dispose();
}

/** The cost of one hook by itself, where the noise of a large model doesn't hide it. */
async function oneHook({ report, timing, quick }) {
  const model = await library.ScriptModule.load(LOOPED);
  const small = library.Tensor.from(new Float32Array(16).fill(0.1), { shape: [1, 1, 16] });
  const calls = quick ? 40 : 400;
  const run = () => milliseconds(async () => (await model.forward([small, calls])).dispose());
  const ways = [
    { name: 'plain', run },
    { name: 'hooked', prepare: hooked(model, ['step']), run },
  ];
  const { times, failures } = await takeTurns(ways, timing);
  for (const error of failures.values()) throw error;
  const plain = times.get('plain');
  const cost = summary(times.get('hooked').map((ms, turn) => (ms - plain[turn]) / (calls / 2)));
  const row = { name: 'a JavaScript hook on a small module', ms: cost };
  report.table('A call of one hook', ['ms (quartiles)'], [[row.name, spread(cost, 4)]], { rows: [row] });
  report.goal('a call of a JavaScript hook', cost.median, 0.2, { unit: ' ms', digits: 4 });
  model.dispose();
}

export async function run(context) {
  for (const file of models.filter((name) => context.models.has(name))) await layers(context, file);
  await oneHook(context);
}
