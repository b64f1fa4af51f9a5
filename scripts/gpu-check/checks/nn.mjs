import { fixture, noise, readTensors } from '../cases.mjs';
import { check, close, failure, onDevice, same, sameBits, tolerance, torch } from '../compare.mjs';

const { nn, Tensor } = torch;
const allowed = tolerance('float32');

/** A state dict of the tensors below a prefix of a fixture. */
function state(tensors, prefix) {
  const names = tensors.names.filter((name) => name.startsWith(prefix));
  return Object.fromEntries(names.map((name) => [name.slice(prefix.length), tensors.tensor(name)]));
}

/**
 * Runs a module on the CPU and on the device with the same arguments: the same attentions with the same weights, and on
 * the device the same bits with a capture as without.
 * @param counts which elements of output and weights are the model's, and not left by kernels where padding is
 */
async function compare(module, positional, named, device, { outputCounts, weightCounts } = {}) {
  const expected = await module.captureAttention(positional, named);
  await module.to(device);
  try {
    const [there, options] = [onDevice(positional, device), onDevice(named, device)];
    const plain = await module.forward(...there, options);
    const received = await module.captureAttention(there, options);
    const output = (value) => value.output ?? value;
    sameBits(output(received.output), output(plain), 'output with and without a capture');
    close(output(received.output), output(expected.output), allowed, 'output', outputCounts);
    const name = (each) => each.attentions.map((one) => one.name);
    same(name(received), name(expected), 'attentions');
    received.attentions.forEach(({ weights }, i) => {
      close(weights, expected.attentions[i].weights, allowed, `attention ${i}`, weightCounts);
    });
  } finally {
    await module.to('cpu');
  }
}

const BOOLEANS = [false, true];
const encoderChecks = BOOLEANS.flatMap((normFirst) =>
  ['relu', 'gelu'].map((activation) => ({
    name: `TransformerEncoder with every mask: ${activation}, norm ${normFirst ? 'first' : 'last'}`,
    async run({ device }) {
      const inputs = await readTensors(fixture('nn', 'encoder_inputs.safetensors'));
      const list = (key) => JSON.parse(inputs.metadata[key]);
      const layer = new nn.TransformerEncoderLayer({
        ...{ dModel: 8, nhead: 2, dimFeedforward: 6, dropout: 0.3, activation, layerNormEps: 1e-4 },
        ...{ batchFirst: true, normFirst },
      });
      const encoder = new nn.TransformerEncoder(layer, 2, { norm: new nn.LayerNorm(8) }).eval();
      await encoder.loadStateDict(state(inputs, 'state.'));
      for (const mask of list('masks')) {
        for (const padding of list('paddings')) {
          const named = {};
          if (mask !== 'none') named.srcMask = inputs.tensor(`mask.${mask}`);
          if (padding !== 'none') named.srcKeyPaddingMask = inputs.tensor(`padding.${padding}`);
          // Padding hides the last token of the first sequence: its rows are whatever a kernel leaves there.
          const hidden = padding !== 'none';
          try {
            await compare(encoder, [inputs.tensor('src')], named, device, {
              outputCounts: (i) => !(hidden && Math.floor(i / 8) === 3),
              weightCounts: (i) => !(hidden && Math.floor(i / 32) === 0 && Math.floor(i / 4) % 4 === 3),
            });
          } catch (error) {
            throw new Error(`mask ${mask}, padding ${padding}: ${error.message}`, { cause: error });
          }
        }
      }
    },
  })),
);

const small = { dModel: 16, nhead: 4, dimFeedforward: 24, batchFirst: true };

export const checks = [
  ...encoderChecks,
  {
    name: 'TransformerDecoder with a causal mask and cross-attention',
    async run({ device }) {
      const decoder = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(small), 2).eval();
      const hidden = Array.from({ length: 25 }, (_, i) => (i % 5 > Math.floor(i / 5) ? Number.NEGATIVE_INFINITY : 0));
      const tgtMask = Tensor.from(Float32Array.from(hidden), { shape: [5, 5] });
      const inputs = [noise([2, 5, 16]), noise([2, 7, 16], { seed: 2 })];
      for (const named of [{}, { tgtMask }, { tgtMask, tgtIsCausal: true }])
        await compare(decoder, inputs, named, device);
    },
  },
  {
    name: 'Transformer',
    async run({ device }) {
      const model = new nn.Transformer({ ...small, numEncoderLayers: 2, numDecoderLayers: 2 }).eval();
      await compare(model, [noise([2, 6, 16]), noise([2, 5, 16], { seed: 2 })], {}, device);
    },
  },
  {
    name: 'TransformerModel, and getOutputAndAttentionWeights',
    async run({ device }) {
      const model = new nn.TransformerModel({
        dInput: 6,
        dOutput: 3,
        dModel: 16,
        nhead: 4,
        dHid: 24,
        nlayers: 3,
      }).eval();
      const inputs = noise([5, 2, 6]);
      const expected = await torch.getOutputAndAttentionWeights(model, inputs);
      await compare(model, [inputs], {}, device);
      await model.to(device);
      const received = await torch.getOutputAndAttentionWeights(model, onDevice(inputs, device));
      close(received.output, expected.output, allowed, 'output');
      same(received.attentionWeights.length, 3, 'layers');
      received.attentionWeights.forEach((weights, i) => {
        close(weights, expected.attentionWeights[i], allowed, `layer ${i}`);
      });
    },
  },
  {
    name: 'MultiheadAttention returns its weights, of each head and their mean',
    async run({ device }) {
      const module = new nn.MultiheadAttention({ embedDim: 16, numHeads: 4, batchFirst: true }).eval();
      const [query, key] = [noise([2, 5, 16]), noise([2, 7, 16], { seed: 2 })];
      for (const options of [{}, { averageAttnWeights: false }, { needWeights: false }]) {
        await module.to('cpu');
        const expected = await module.forward(query, key, key, options);
        await module.to(device);
        const there = onDevice([query, key], device);
        const received = await module.forward(there[0], there[1], there[1], options);
        close(received.output, expected.output, allowed, 'output');
        same(received.weights === undefined, expected.weights === undefined, 'weights returned');
        if (expected.weights) close(received.weights, expected.weights, allowed, 'weights');
      }
    },
  },
  {
    name: 'gradients of parameters and inputs, in training mode without dropout',
    async run({ device }) {
      const layer = new nn.TransformerEncoderLayer({ ...small, dropout: 0 });
      const gradients = async (where) => {
        await layer.to(where);
        const inputs = noise([2, 5, 16]).to({ device: where });
        inputs.requiresGrad = true;
        const output = await layer.forward(inputs, { grad: true });
        await output.mul(output).sum().backward();
        const named = layer.namedParameters().map(({ tensor }) => tensor.grad?.to({ device: 'cpu' }).mul(1) ?? null);
        return { input: inputs.grad.to({ device: 'cpu' }), named };
      };
      const fresh = await gradients('cpu');
      const here = await gradients(device);
      close(here.input, fresh.input, 1e-3, 'gradient of the input');
      // Gradients add up from run to run; after the move they may begin anew.
      here.named.forEach((gradient, i) => {
        check(gradient !== null, `parameter ${i} has no gradient on ${device}`);
        const once = fresh.named[i];
        const distances = [once, once.mul(2)].map((one) => gradient.add(one.mul(-1)));
        const worst = distances.map((each) => Math.max(...each.toTypedArray().map(Math.abs)));
        check(Math.min(...worst) <= 1e-2, `gradient of parameter ${i} is off by ${Math.min(...worst)}`);
      });
    },
  },
  {
    name: 'inputs on another device than the module are an error',
    cudaOnly: true,
    async run({ device }) {
      const layer = new nn.TransformerEncoderLayer(small).eval();
      await layer.to(device);
      const error = await failure(() => layer.forward(noise([2, 5, 16])), 'an input on the CPU');
      same(error.code, 'ERR_MODEL_RUN', 'code');
      same((await layer.forward(noise([2, 5, 16]).to({ device }))).shape, [2, 5, 16], 'afterwards');
    },
  },
];
