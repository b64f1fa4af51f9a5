import { readFileSync } from 'node:fs';
import {
  check,
  close,
  closeValues,
  failure,
  fill,
  fixture,
  load,
  onDevice,
  place,
  readTensors,
  same,
  sameBits,
  skip,
  tensorsIn,
  tolerance,
  torch,
} from '../compare.mjs';

const { ScriptModule } = torch;
const path = (file) => fixture('models', file);
const { fixtures } = JSON.parse(readFileSync(path('manifest.json'), 'utf8'));

/** A traced program may name the device that it was traced on: it runs nowhere else, in Python either. */
export async function unlessBoundToCpu(device, run) {
  try {
    return await run();
  } catch (error) {
    const bound = /same device|is on cpu|on device cpu|CPU tensor/i.test(error.message);
    if (device !== 'cpu' && bound) skip(`the file names the CPU in its code: ${error.message.split('\n')[0]}`);
    throw error;
  }
}

async function compare(each, device) {
  const model = await load(path(each.file), device);
  const tensors = await readTensors(path(each.data));
  const given = fill(each.inputs, tensors);
  const inputs = onDevice(given, device);
  const options = { method: each.method };
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
  const onCpu = await load(path(each.file), 'cpu');
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
  const model = await ScriptModule.load(path(each.file), { device });
  const tensors = await readTensors(path(each.data));
  const inputs = onDevice(fill(each.inputs, tensors), device);
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

export const checks = fixtures
  .filter((each) => !each.throws && !each.stretch)
  .map((each) => ({
    name: each.name,
    run: ({ device }) => (each.calls ? compareCalls(each, device) : compare(each, device)),
  }));
