// Silences one head of the decoder's cross-attention after the other. node examples/silence-a-head.mjs
import { Tensor } from '../dist/index.js';
import { inputsFor, loadModel } from './dates.mjs';

const model = await loadModel();
const inputs = inputsFor('12 may 2021', '20');
const path = 'decoder.layers.0.multihead_attn';
const heads = 4;
const last = (logits) => logits.select(0, 0).select(0, logits.shape[1] - 1);
const plain = last(await model.forward(inputs)).toTypedArray();

// The heads lie side by side in what enters the output projection; a fused attention never shows that. Their values come
// from a slice of in_proj_weight: zeroed there, a head adds nothing. The tensors of a model are its own, so a hook on the
// output takes away what the head has added instead: W_out[:, head] · (weights · V)[head].
const parameters = new Map(model.namedParameters().map(({ name, tensor }) => [name, tensor]));
const read = (name) => parameters.get(`${path}.${name}`).toTypedArray();
const [inWeight, inBias, outWeight] = ['in_proj_weight', 'in_proj_bias', 'out_proj.weight'].map(read);
const width = parameters.get(`${path}.out_proj.weight`).shape[0];
const size = width / heads;

/** What `head` adds to the attention's output, [T, width], from its weights and the memory [1, S, width]. */
function contribution(head, weights, memory) {
  const [, , queries, keys] = weights.shape;
  const a = weights.toTypedArray();
  const m = memory.toTypedArray();
  const added = new Float32Array(queries * width);
  for (let d = head * size; d < (head + 1) * size; d++) {
    const row = 2 * width + d; // queries, keys, then values
    const value = Float32Array.from({ length: keys }, (_, k) => {
      let sum = inBias[row];
      for (let i = 0; i < width; i++) sum += inWeight[row * width + i] * m[k * width + i];
      return sum;
    });
    for (let q = 0; q < queries; q++) {
      let mixed = 0;
      for (let k = 0; k < keys; k++) mixed += a[(head * queries + q) * keys + k] * value[k];
      for (let o = 0; o < width; o++) added[q * width + o] += outWeight[o * width + d] * mixed;
    }
  }
  return Tensor.from(added, { shape: [1, queries, width] });
}

const { attentions } = await model.captureAttention(inputs, { layers: [path] });
for (let head = 0; head < heads; head++) {
  const handle = model.registerForwardHook(path, (_, [, memory], [output, weights]) => [
    output.add(contribution(head, attentions[0].weights, memory).mul(-1)),
    weights,
  ]);
  const silenced = last(await model.forward(inputs)).toTypedArray();
  handle.remove();
  const change = Math.max(...silenced.map((x, i) => Math.abs(x - plain[i])));
  console.log(`without head ${head} of ${path}: logits change by up to ${change.toFixed(3)}`);
}
model.dispose();
