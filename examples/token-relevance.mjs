// Which characters made the model write what it writes? node examples/token-relevance.mjs
import { attentionRelevance } from '../dist/index.js';
import { inputsFor, loadModel, nextCharacter } from './dates.mjs';

const model = await loadModel();
const text = '12 may 2021';
const inputs = inputsFor(text, '2021-0');
const { output, attentions } = await model.captureAttention(inputs, {
  gradientOf: (logits) => {
    const last = logits.select(0, 0).select(0, logits.shape[1] - 1);
    return last.select(0, Number(last.argmax().item()));
  },
});
// Through the encoder's layers to its outputs, and from there by the cross-attention of the last position written.
const encoder = attentionRelevance(attentions.filter(({ name }) => name.startsWith('encoder.')));
const cross = attentions.find(({ name }) => name.endsWith('multihead_attn'));
const product = cross.weights.mul(cross.gradient);
const [, heads, queries, keys] = product.shape;
const values = product.toTypedArray();
const toOutputs = Array.from({ length: keys }, (_, key) => {
  let sum = 0;
  for (let head = 0; head < heads; head++)
    sum += Math.max(0, values[(head * queries + queries - 1) * keys + key]) / heads;
  return sum;
});
const matrix = encoder.toTypedArray();
const relevance = Array.from(text, (_, i) => toOutputs.reduce((sum, x, key) => sum + x * matrix[key * keys + i], 0));
const most = Math.max(...relevance);
console.log(`${text} → 2021-0${nextCharacter(output)}`);
[...text].forEach((character, i) => {
  console.log(`${character}  ${'█'.repeat(Math.round((30 * relevance[i]) / most))} ${relevance[i].toFixed(3)}`);
});
model.dispose();
