import { fixture, load, noise } from '../cases.mjs';
import { check, close, onDevice, same, sameBits, skip, tolerance, torch } from '../compare.mjs';
import { BATCH, HEADS, KERNELS, KEYS, QUERIES, title } from '../kernels.mjs';

const { Tensor } = torch;

/** Query, key, value, mask, and the flags of the fixture's forward, on the CPU. */
function inputs({ dtype, head, causal, mask, keyHeads }) {
  const keys = causal ? QUERIES : KEYS;
  const [query, key, value] = [
    noise([BATCH, HEADS, QUERIES, head], { seed: 1, dtype }),
    noise([BATCH, keyHeads ?? HEADS, keys, head], { seed: 2, dtype }),
    noise([BATCH, keyHeads ?? HEADS, keys, head], { seed: 3, dtype }),
  ];
  let given = null;
  if (mask === 'float') given = noise([BATCH, 1, QUERIES, keys], { seed: 4, dtype });
  if (mask === 'bool') {
    const visible = Uint8Array.from({ length: BATCH * QUERIES * keys }, (_, i) => (i % keys < 5 || i % 3 ? 1 : 0));
    given = Tensor.from(visible, { shape: [BATCH, 1, QUERIES, keys], dtype: 'bool' });
  }
  return [query, key, value, given, causal ?? false, null, keyHeads !== undefined];
}

const sdpa = (device) => load(fixture('models', 'sdpa.pt'), device);
const bothSides = (device) => Promise.all([sdpa(device), sdpa('cpu')]);

const raise = (value) => (value instanceof Tensor && value.dtype !== 'bool' ? value.to({ dtype: 'float64' }) : value);

export const checks = [
  ...KERNELS.map((each) => ({
    name: title(each),
    async run({ device }) {
      const [model, onCpu] = await bothSides(device);
      const given = inputs(each);
      const there = onDevice(given, device);
      // The reference is computed from the same rounded elements, as exactly as the CPU can.
      const exact = await onCpu.captureAttention(given.map(raise), { dtype: 'same' });
      const plain = await model.forward(there);
      close(plain, exact.output, tolerance(each.dtype), 'output');
      const { output, attentions } = await model.captureAttention(there);
      sameBits(output, await model.forward(there), 'output with and without a capture');
      same(attentions.length, 1, 'attentions');
      // Weights are computed in float32 whatever the type of query and key.
      const allowed = each.dtype === 'float64' ? tolerance('float32', 1e-6) : 1e-4;
      close(attentions[0].weights, exact.attentions[0].weights, allowed, 'weights');
      const kept = await model.captureAttention(there, { device: 'same', dtype: 'same' });
      same(kept.attentions[0].weights.dtype, each.dtype, "type with dtype 'same'");
      close(
        kept.attentions[0].weights,
        exact.attentions[0].weights,
        tolerance(each.dtype),
        "weights with dtype 'same'",
      );
      const some = await model.captureAttention(there, { heads: [3, 1], queries: [5, 0, 32] });
      const whole = attentions[0].weights;
      for (const [h, head] of [3, 1].entries()) {
        for (const [q, query] of [5, 0, 32].entries()) {
          const row = (tensor, at, of) => tensor.select(1, at).select(1, of);
          close(row(some.attentions[0].weights, h, q), row(whole, head, query), 1e-5, `head ${head}, query ${query}`);
        }
      }
    },
  })),
  {
    name: 'gradients by weights behind each kernel',
    async run({ device }) {
      const [model, onCpu] = await bothSides(device);
      for (const each of KERNELS) {
        const given = inputs(each);
        const scalar = (output) => output.mul(output).to({ dtype: 'float32' }).sum();
        const trained = (values) => {
          for (const tensor of values.slice(0, 3)) tensor.requiresGrad = true;
          return values;
        };
        let received;
        try {
          received = await model.captureAttention(trained(onDevice(given, device)), { gradientOf: scalar });
        } catch (error) {
          throw new Error(`${title(each)}: ${error.message}`, { cause: error });
        }
        const expected = await onCpu.captureAttention(trained(given.map(raise)), { gradientOf: scalar });
        const [own, reference] = [received.attentions[0].gradient, expected.attentions[0].gradient];
        check(own !== undefined, `${title(each)}: no gradient`);
        close(own, reference, 2 * tolerance(each.dtype), title(each));
      }
    },
  },
  {
    name: 'a row without any key is zero, or what the kernel makes of it',
    async run({ device }) {
      for (const dtype of ['float32', 'bfloat16']) {
        const [query, key, value] = inputs({ dtype, head: 64 });
        const mask = Tensor.from(
          Uint8Array.from({ length: QUERIES * KEYS }, (_, i) => (i < KEYS ? 0 : 1)),
          { shape: [QUERIES, KEYS], dtype: 'bool' },
        );
        const model = await sdpa(device);
        const { output, attentions } = await model.captureAttention(onDevice([query, key, value, mask], device));
        const first = attentions[0].weights.select(2, 0).sum().item();
        check(first === 0, `${dtype}: expected weights of zero but received a sum of ${first}`);
        const sum = output.select(2, 0).to({ device: 'cpu', dtype: 'float32' }).sum().item();
        if (Number.isNaN(sum)) skip(`${dtype}: the kernel itself gives NaN for such a row`);
      }
    },
  },
];
