import { readdirSync } from 'node:fs';
import { fill, fixture, listed, load, readTensors, unlessBoundToCpu } from '../cases.mjs';
import { check, closeValues, isTensor, mapTensors, onDevice, same, tensorsIn } from '../compare.mjs';

const cases = readdirSync(fixture('hooks'))
  .filter((file) => file.endsWith('.json') && file !== 'gradients.json')
  .flatMap((file) => listed('hooks', file));

/** A value as it is now, on the CPU: what is there already would change with the next run. */
const copied = (value) =>
  mapTensors(value, (tensor) => {
    const host = tensor.to({ device: 'cpu' });
    return /float/.test(host.dtype) ? host.mul(1) : host;
  });

function scaledFirst(value, factor) {
  if (isTensor(value)) return value.mul(factor);
  if (Array.isArray(value)) return [scaledFirst(value[0], factor), ...value.slice(1)];
  const [key, first] = Object.entries(value)[0];
  return { ...value, [key]: scaledFirst(first, factor) };
}

/** Everything that the hooks of a case see and that comes out, on the CPU. */
async function replay(given, file, device) {
  const model = await load(fixture('hooks', file), device);
  const tensors = await readTensors(fixture('hooks', given.data));
  const events = [];
  const names = new Set(model.modules().map(({ name }) => name));
  const handles = given.hooks
    .filter(({ path }) => names.has(path))
    .map(({ kind, path, scale }) => {
      const seen = (input, output) =>
        events.push({ where: `${kind} '${path}'`, input: copied(input), output: copied(output) });
      if (kind === 'pre') {
        return model.registerForwardPreHook(path, (_, input) => {
          seen(input);
          return scale === undefined ? undefined : scaledFirst(input, scale);
        });
      }
      if (kind === 'forward') {
        return model.registerForwardHook(path, (_, input, output) => {
          seen(input, output);
          return scale === undefined ? undefined : scaledFirst(output, scale);
        });
      }
      return model.registerFullBackwardHook(path, (_, input, output) => {
        seen(input, output);
        return scale === undefined ? undefined : input.map((gradient) => gradient?.mul(scale) ?? null);
      });
    });
  try {
    const inputs = onDevice(fill(given.inputs, tensors), device);
    if (given.inputGrad)
      for (const tensor of tensorsIn(inputs)) if (tensor.dtype === 'float32') tensor.requiresGrad = true;
    const parameters = model.namedParameters();
    const before = parameters.map(({ tensor }) => tensor.grad && copied(tensor.grad));
    const output = await unlessBoundToCpu(device, () => model.forward(inputs, { grad: given.grad }));
    const gradients = {};
    if (given.lossWeights) {
      const weights = onDevice(fill(given.lossWeights, tensors), device);
      const [first, ...others] = tensorsIn(output).map((leaf, i) => leaf.mul(weights[i]).sum());
      await others.reduce((sum, each) => sum.add(each), first).backward();
      parameters.forEach(({ name, tensor }, i) => {
        if (!tensor.grad) return;
        const now = copied(tensor.grad);
        gradients[name] = before[i] ? now.add(before[i].mul(-1)) : now;
      });
    }
    const inputGradients = tensorsIn(inputs).map((tensor) => tensor.grad && copied(tensor.grad));
    return { events, output: copied(output), gradients, inputGradients, expected: fill(given.output, tensors) };
  } finally {
    for (const handle of handles) handle.remove();
  }
}

export const checks = cases.flatMap((given) =>
  given.files.map((file) => ({
    name: `${given.name}, ${file}`,
    async run({ device }) {
      const received = await replay(given, file, device);
      const expected = await replay(given, file, 'cpu');
      const where = (list) => list.map((event) => event.where);
      check(expected.events.length > 0 || given.events.length === 0, 'no hook fired');
      same(where(received.events), where(expected.events), 'order of the hooks');
      // Rows beyond the lengths of a padded batch are whatever the kernels leave there.
      if (given.padded.length > 0) return;
      const options = { allowed: 1e-3 };
      received.events.forEach((event, i) => {
        closeValues(event.input, expected.events[i].input, `${event.where}: input`, options);
        closeValues(event.output, expected.events[i].output, `${event.where}: output`, options);
      });
      closeValues(received.output, expected.output, 'output as on the CPU', options);
      // One module under two names is two in a scripted file, so that a hook on one of them sees other calls than in Python.
      if (given.data !== 'two_names.safetensors') {
        closeValues(received.output, received.expected, "output as Python's", options);
      }
      same(Object.keys(received.gradients), Object.keys(expected.gradients), 'parameters with gradients');
      closeValues(received.gradients, expected.gradients, 'gradients', options);
      closeValues(received.inputGradients, expected.inputGradients, 'gradients of the inputs', options);
    },
  })),
);
