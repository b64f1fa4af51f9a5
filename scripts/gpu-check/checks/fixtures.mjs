import { fill, fixture, inputsOf, load, MODEL_CASES, prepare, unlessBoundToCpu } from '../cases.mjs';
import { check, close, closeValues, failure, place, same, sameBits, tensorsIn, tolerance, torch } from '../compare.mjs';

const { ScriptModule } = torch;

async function compare(each, device) {
  const { model, tensors, given, inputs, options } = await prepare(each, device);
  const expected = fill(each.output, tensors);
  const plain = await unlessBoundToCpu(device, () => model.forward(inputs, options));
  for (const [i, tensor] of tensorsIn(plain).entries()) {
    close(tensor, tensorsIn(expected)[i], tolerance(tensor.dtype, each.outputTolerance), `output ${i}`);
  }
  if (each.attentions.length === 0) {
    const error = await failure(() => model.captureAttention(inputs, options), 'a model without attention');
    return same(error.code, 'ERR_NO_ATTENTION', 'code');
  }
  await model.forward(inputs, options); // the profiler optimizes a program between its first runs
  const { output, attentions } = await model.captureAttention(inputs, options);
  sameBits(output, await model.forward(inputs, options), 'output with and without a capture');

  // What a device sees may not depend on how its kernels are made: as many attentions, of the same modules.
  const onCpu = await load(fixture('models', each.file), 'cpu');
  const order = (list) => (each.unordered ? list.map((one) => JSON.stringify(one)).sort() : list);
  const sites = await model.attentionSites(inputs, options);
  same(order(sites.map(place)), order((await onCpu.attentionSites(given, options)).map(place)), 'sites as on the CPU');
  same(order(attentions.map(place)), order(sites.map(place)), 'attentions as sites');
  check(
    sites.every((site) => site.device.startsWith(device)),
    `sites on ${device}`,
  );
  if (each.unordered) return undefined;
  attentions.forEach(({ weights }, i) => {
    same(weights.device, 'cpu', `device of attention ${i}`);
    close(weights, tensors.tensor(`attention.${i}`), tolerance(sites[i].dtype, each.tolerance), `attention ${i}`);
  });
  const kept = await model.captureAttention(inputs, { ...options, device: 'same' });
  kept.attentions.forEach(({ weights }, i) => {
    check(weights.device.startsWith(device), `attention ${i} with device 'same' is on ${weights.device}`);
    sameBits(weights, attentions[i].weights, `attention ${i} on the device and on the CPU`);
  });
  return undefined;
}

/** A stateful model goes on from call to call, captured or not. */
async function compareCalls(each, device) {
  const model = await ScriptModule.load(fixture('models', each.file), { device });
  const { tensors, inputs } = await inputsOf(each, device);
  const first = await unlessBoundToCpu(device, () => model.captureAttention(inputs));
  const outputs = [first.output, await model.forward(inputs), (await model.captureAttention(inputs)).output];
  const later = [1, 2].map((call) => tensors.names.filter((name) => name.startsWith(`call${call}.`)));
  const references = [fill(each.output, tensors), ...later.map((names) => names.map((name) => tensors.tensor(name)))];
  for (const [call, reference] of references.entries()) {
    const options = { allowed: tolerance('float32', each.outputTolerance) };
    closeValues(tensorsIn(outputs[call]), reference, `call ${call}`, options);
  }
  model.dispose();
}

export const checks = MODEL_CASES.filter((each) => !each.throws && !each.stretch).map((each) => ({
  name: each.name,
  run: ({ device }) => (each.calls ? compareCalls(each, device) : compare(each, device)),
}));
