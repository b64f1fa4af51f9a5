// What this package is asked to do with a model: the plain forward, and captures with each of their options.
import { milliseconds } from './measure.mjs';

const sizes = { float32: 4, int64: 8 };
const bytesOf = ({ shape, dtype }) => shape.reduce((a, b) => a * b, sizes[dtype]);

/** Disposes of an attention; says how many bytes it held. */
function release({ weights, keys }) {
  const tensors = keys ? [weights, keys] : [weights];
  const bytes = tensors.map(bytesOf).reduce((a, b) => a + b);
  for (const tensor of tensors) tensor.dispose();
  return bytes;
}

async function capture(model, inputs, options) {
  const { output, attentions } = await model.captureAttention(inputs, options);
  output.dispose();
  return attentions.reduce((bytes, attention) => bytes + release(attention), 0);
}

const captured = (options) => (model, inputs) => capture(model, inputs, options);

const isHookFailure = ({ code }) => code === 'ERR_HOOK_FAILED';

/** Runs that are expected to fail with an error; any other outcome is one of the benchmark. */
async function failing(run, matches) {
  try {
    await run();
  } catch (error) {
    if (matches(error)) return 0;
    throw error;
  }
  throw new Error('Expected this capture to fail');
}

/** Each resolves to the bytes of weights that it held at once. */
export const WAYS = {
  forward: async (model, inputs) => {
    (await model.forward(inputs)).dispose();
    return 0;
  },
  forwardSync: (model, inputs) => {
    model.forwardSync(inputs).dispose();
    return 0;
  },
  'every weight': captured(),
  'every weight, exact: false': captured({ exact: false }),
  'heads: [0]': captured({ heads: [0] }),
  'one row per head': captured({ queries: [0] }),
  averageHeads: captured({ averageHeads: true }),
  'topK: 10': captured({ topK: 10 }),
  onAttention: async (model, inputs) => {
    let largest = 0;
    const onAttention = (attention) => {
      largest = Math.max(largest, release(attention));
    };
    const { output } = await model.captureAttention(inputs, { onAttention });
    output.dispose();
    return largest;
  },
};

/** Captures that don't come to their end, for what they leave behind: all of them while they hold weights. */
export const INTERRUPTED = {
  aborted: async (model, inputs) => {
    const duration = await milliseconds(() => WAYS.forward(model, inputs));
    const stop = new AbortController();
    setTimeout(() => stop.abort(), duration / 2);
    await failing(
      () => model.captureAttention(inputs, { signal: stop.signal }),
      (error) => error.name === 'AbortError',
    );
    return WAYS.forward(model, inputs); // behind the run that was given up
  },
  'failing hook': async (model, inputs) => {
    const layers = model.modules().filter(({ name }) => /\blayers?\.\d+$/.test(name));
    const handle = model.registerForwardHook(layers.at(-1).name, () => {
      throw new Error('enough');
    });
    try {
      return await failing(() => model.captureAttention(inputs), isHookFailure);
    } finally {
      handle.remove();
    }
  },
  'failing onAttention': (model, inputs) => {
    const held = [];
    const onAttention = (attention) => {
      held.push(attention); // left to the garbage collector
      if (held.length === 3) throw new Error('enough');
    };
    return failing(() => model.captureAttention(inputs, { onAttention }), isHookFailure);
  },
  oversized: async (model, inputs) => {
    // Room for two and a half layers: the run fails in its middle.
    const [site] = await model.attentionSites(inputs);
    const maxBytes = Math.floor(site.shape.reduce((a, b) => a * b, 4) * 2.5);
    return failing(
      () => model.captureAttention(inputs, { maxBytes }),
      (error) => error.code === 'ERR_CAPTURE_TOO_LARGE',
    );
  },
};
