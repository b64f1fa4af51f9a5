// Collects the mean activation of a layer over a data set. node examples/collect-activations.mjs
import { readFileSync } from 'node:fs';
import { HookedModel } from '../dist/index.js';
import { inputsFor, loadModel } from './dates.mjs';

const model = await loadModel();
const texts = JSON.parse(readFileSync(new URL('held-out.json', import.meta.url), 'utf8')).slice(0, 32);
const recorder = new HookedModel(model);
// Stays native during the run; read afterwards.
recorder.setForwardHook('layer', 'encoder.layers.1');

const rows = [];
for (const [text] of texts) {
  await model.forward(inputsFor(text));
  rows.push(recorder.hooks.get('layer').output.mean(1).toTypedArray());
}
const mean = Float32Array.from(rows[0], (_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
console.log(`${rows.length} texts, ${mean.length} activations each`);
console.log(`mean of the first four: ${Array.from(mean.subarray(0, 4), (x) => x.toFixed(3)).join(', ')}`);
model.dispose();
