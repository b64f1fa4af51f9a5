import { modelCase, prepare } from '../cases.mjs';
import { check, close, closeValues, failure, numbers, onDevice, same, sameBits, sameWeights } from '../compare.mjs';

// One for each way in which weights are had: beside a fused kernel, out of one, of a nested batch, as they pass by.
const MODELS = [
  'encoder_relu',
  'encoder_relu_traced',
  'encoder_nested__padded',
  'hand_sdpa_script',
  'hand_matmul_script',
  'hand_einsum_trace',
  'decoder__padded',
  'transformer__src_mask',
  'sdpa__gqa_causal',
  'hand_sdpa_bfloat16',
  'hand_matmul_float16',
];

/** A model on the device and on the CPU, each with its capture. */
async function bothSides(name, device) {
  const each = modelCase(name);
  const side = async (where) => {
    const { model, inputs, options } = await prepare(each, where);
    return { model, inputs, capture: (more) => model.captureAttention(inputs, { ...options, ...more }) };
  };
  return { here: await side(device), onCpu: await side('cpu'), each };
}

const half = ({ name }) => /float16/.test(name);
const allowedFor = (each) => (half(each) ? 2e-2 : 1e-4);

/** A capture with these options against the same on the CPU. */
function likeCpu(options) {
  return async ({ here, onCpu, each }) => {
    const [received, expected] = [await here.capture(options), await onCpu.capture(options)];
    same(
      received.attentions.map(({ index, name, heads, queries }) => ({ index, name, heads, queries })),
      expected.attentions.map(({ index, name, heads, queries }) => ({ index, name, heads, queries })),
      'attentions',
    );
    received.attentions.forEach(({ weights }, i) => {
      close(weights, expected.attentions[i].weights, allowedFor(each), `attention ${i}`);
    });
    sameBits(received.output, (await here.capture({})).output, 'output');
  };
}

const OPTIONS = {
  'layers by position': likeCpu({ layers: [-1] }),
  'layers by pattern': async (sides) => {
    if (sides.each.frozen || sides.each.name.startsWith('sdpa')) return likeCpu({ layers: [0] })(sides);
    return likeCpu({ layers: [/./] })(sides);
  },
  heads: likeCpu({ heads: [1, 0] }),
  'one head': likeCpu({ heads: [1] }),
  'a list of queries': likeCpu({ queries: [2, 0] }),
  'a range of queries': likeCpu({ queries: { start: 1, end: 3 } }),
  averageHeads: likeCpu({ averageHeads: true }),
  'averageHeads of some': likeCpu({ averageHeads: true, heads: [0], queries: [1] }),
  'device same': likeCpu({ device: 'same' }),
  "dtype 'same'": likeCpu({ dtype: 'same', device: 'same' }),

  async topK({ here, onCpu, each }) {
    for (const options of [{ topK: 2 }, { topK: 3, averageHeads: true }, { topK: 2, device: 'same' }, { topK: 1000 }]) {
      const { topK: _, ...others } = options;
      const [received, whole] = [await here.capture(options), await here.capture({ ...others, device: 'cpu' })];
      const expected = await onCpu.capture(options);
      received.attentions.forEach(({ weights, keys }, i) => {
        close(weights, expected.attentions[i].weights, allowedFor(each), `attention ${i}`);
        // Equal weights may come in another order on a device: each position has to hold the weight beside it.
        same(keys.shape, weights.shape, `positions of attention ${i}`);
        const [values, positions, all] = [numbers(weights), numbers(keys), numbers(whole.attentions[i].weights)];
        const [count, length] = [weights.shape.at(-1), whole.attentions[i].weights.shape.at(-1)];
        for (let at = 0; at < values.length; at++) {
          const row = Math.floor(at / count);
          const held = all[row * length + positions[at]];
          check(
            Math.abs(held - values[at]) <= 1e-6,
            `attention ${i}: weight ${values[at]} is not at key ${positions[at]}`,
          );
          const repeated = at % count > 0 && positions.slice(row * count, at).includes(positions[at]);
          check(!repeated, `attention ${i}: key ${positions[at]} twice in row ${row}`);
        }
      });
    }
  },

  async maxBytes({ here, onCpu }) {
    const bytes = (list) => list.reduce((sum, { weights }) => sum + 4 * numbers(weights).length, 0);
    const needed = bytes((await here.capture({})).attentions);
    for (const { capture } of [here, onCpu]) {
      const error = await failure(() => capture({ maxBytes: needed - 1 }), 'one byte too few');
      same(error.code, 'ERR_CAPTURE_TOO_LARGE', 'code');
      check((await capture({ maxBytes: needed })).attentions.length > 0, 'exactly as many bytes');
    }
  },

  async 'onAttention, on the device too'({ here }) {
    for (const device of ['cpu', 'same']) {
      const seen = [];
      const whole = await here.capture({ device });
      const { output, attentions } = await here.capture({
        device,
        onAttention: async (attention) => {
          await new Promise(setImmediate);
          seen.push(attention);
        },
      });
      same(attentions.length, 0, 'attentions that were handed over');
      same(
        seen.map(({ index }) => index),
        whole.attentions.map(({ index }) => index),
        'handed over',
      );
      sameWeights(seen, whole.attentions);
      sameBits(output, whole.output, 'output');
    }
  },

  async 'as a stream, to the end and left early'({ here, each }) {
    const whole = await here.capture({});
    const stream = here.model.captureAttentionStream(here.inputs, { method: each.method });
    let count = 0;
    for await (const { weights } of stream) sameBits(weights, whole.attentions[count++].weights, `attention ${count}`);
    same(count, whole.attentions.length, 'attentions');
    sameBits(await stream.output, whole.output, 'output');
    for await (const _ of here.model.captureAttentionStream(here.inputs, { method: each.method })) break;
    same((await here.capture({})).attentions.length, count, 'after a stream that was left');
  },

  async captureMany({ here, each }) {
    const whole = await here.capture({});
    let index = 0;
    const many = here.model.captureMany([here.inputs, here.inputs, here.inputs, here.inputs], {
      method: each.method,
      ahead: 3,
    });
    for await (const result of many) {
      if (result.error !== undefined) throw result.error;
      same(result.index, index++, 'order');
      sameBits(result.output, whole.output, `output ${index}`);
      sameWeights(result.attentions, whole.attentions);
    }
    same(index, 4, 'results');
  },

  async 'hooks during a capture'({ here, onCpu, each }) {
    if (each.frozen) return;
    const seen = [];
    for (const { model, capture } of [here, onCpu]) {
      const path = model.modules().at(-1).name;
      const handle = model.registerForwardHook('', (_, _input, output) => {
        seen.push(output);
      });
      try {
        await capture({});
      } finally {
        handle.remove();
      }
      check(path !== undefined, 'modules');
    }
    closeValues(onDevice(seen[0], 'cpu'), onDevice(seen[1], 'cpu'), 'what the hook saw', {
      allowed: half(each) ? 4e-2 : 1e-3,
    });
  },
};

export const checks = MODELS.flatMap((name) =>
  Object.entries(OPTIONS).map(([option, run]) => ({
    name: `${name}: ${option}`,
    run: async ({ device }) => run(await bothSides(name, device)),
  })),
);
