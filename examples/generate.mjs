// Generates with key/value caches and puts the attention of all steps together. node examples/generate.mjs
import { readFileSync } from 'node:fs';
import { assembleAttention, ScriptModule, Tensor } from '../dist/index.js';

// A GPT-2 of two layers with random weights, traced: forward(tokens, k0, v0, k1, v1) → logits, [k0, v0, k1, v1].
const file = new URL('../test/fixtures/generation/gpt2.pt', import.meta.url);
const model = await ScriptModule.load(readFileSync(file));
const [heads, width, layers] = [2, 8, 2];

const prompt = [3n, 14n, 15n, 9n];
const tokens = Tensor.from(BigInt64Array.from(prompt), { shape: [1, prompt.length] });
const noCache = Tensor.from(new Float32Array(0), { shape: [1, heads, 0, width] });

const written = [];
/** The token with the largest logit and the caches as they came, until there are seven. */
function next([logits, caches]) {
  const token = logits.select(1, logits.shape[1] - 1).argmax(-1);
  written.push(token.item());
  return written.length < 7 ? [token.reshape([1, 1]), ...caches] : undefined;
}

const steps = [];
for await (const step of model.captureGeneration([tokens, ...Array(2 * layers).fill(noCache)], next)) {
  const { queryOffset, keyLength, attentions } = step;
  console.log(`step ${step.step}: queries from ${queryOffset}, ${keyLength} keys`);
  steps.push({ attentions }); // not the output: the caches of a step are free once the next one has run
}
console.log(`${prompt.join(' ')} → ${written.join(' ')}`);
for (const { name, weights } of await assembleAttention(steps)) console.log(`${name} [${weights.shape.join(', ')}]`);
model.dispose();
