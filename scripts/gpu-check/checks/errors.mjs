import { readFileSync } from 'node:fs';
import { check, failure, fill, fixture, load, noise, onDevice, readTensors, same } from '../compare.mjs';

const path = (file) => fixture('models', file);
const { fixtures } = JSON.parse(readFileSync(path('manifest.json'), 'utf8'));

// A failed assertion inside a CUDA kernel spoils the device for the rest of the process: each check has its own.
export const isolated = true;

export const checks = [
  ...fixtures
    .filter((each) => each.throws && !each.stretch)
    .map((each) => ({
      name: each.name,
      async run({ device }) {
        const model = await load(path(each.file), device);
        const inputs = onDevice(fill(each.inputs, await readTensors(path(each.data))), device);
        const error = await failure(() => model.forward(inputs, { method: each.method }), 'the run');
        same(error.code, 'ERR_MODEL_RUN', 'code');
        // Kernels of CUDA check indices themselves, in other words.
        const known = error.message.includes(each.throws) || (device !== 'cpu' && /CUDA error/.test(error.message));
        check(known, `message: expected ${each.throws} but received ${error.message}`);
      },
    })),
  {
    name: 'an input on another device than the model is an error, and the model stays usable',
    cudaOnly: true,
    async run({ device }) {
      const model = await load(path('hand_sdpa_script.pt'), device);
      const { inputs } = fixtures.find(({ name }) => name === 'hand_sdpa_script');
      const given = fill(inputs, await readTensors(path('hand_sdpa_script.safetensors')));
      for (const run of [() => model.forward(given), () => model.captureAttention(given)]) {
        same((await failure(run, 'inputs on the CPU')).code, 'ERR_MODEL_RUN', 'code');
      }
      same((await model.captureAttention(onDevice(given, device))).attentions.length > 0, true, 'afterwards');
    },
  },
  {
    name: 'a device that is not there is ERR_DEVICE_UNAVAILABLE',
    async run() {
      const error = await failure(() => noise([2]).to({ device: 'cuda:77' }), 'cuda:77');
      same(error.code, 'ERR_DEVICE_UNAVAILABLE', 'code');
    },
  },
];
