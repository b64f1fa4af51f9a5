import { MODEL_CASES, modelCase, noise, prepare } from '../cases.mjs';
import { check, failure, same } from '../compare.mjs';

// A failed assertion inside a CUDA kernel spoils the device for the rest of the process: each check has its own.
export const isolated = true;

export const checks = [
  ...MODEL_CASES.filter((each) => each.throws && !each.stretch).map((each) => ({
    name: each.name,
    async run({ device }) {
      const { model, inputs, options } = await prepare(each, device);
      const error = await failure(() => model.forward(inputs, options), 'the run');
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
      const { model, given, inputs } = await prepare(modelCase('hand_sdpa_script'), device);
      for (const run of [() => model.forward(given), () => model.captureAttention(given)]) {
        same((await failure(run, 'inputs on the CPU')).code, 'ERR_MODEL_RUN', 'code');
      }
      same((await model.captureAttention(inputs)).attentions.length > 0, true, 'afterwards');
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
