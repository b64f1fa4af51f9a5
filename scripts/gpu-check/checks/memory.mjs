import { fixture, load, noise } from '../cases.mjs';
import { check, failure, onDevice, same, torch } from '../compare.mjs';

const { Tensor } = torch;

// Takes all of the device's memory: nothing else may run meanwhile.
export const alone = true;

export const checks = [
  {
    name: 'a tensor beyond the memory is an error that says so',
    async run({ device }) {
      const error = await failure(() => Tensor.zeros([2 ** 44], { device }), '64 TiB');
      check(/memory|allocate/i.test(error.message), `message: ${error.message}`);
      check(typeof error.code === 'string', `expected a code but received ${error.code}`);
      same(Tensor.zeros([4], { device }).sum().item(), 0, 'afterwards');
    },
  },
  {
    name: 'a capture beyond the device’s memory is an error, and the model and the device stay usable',
    cudaOnly: true,
    async run({ device }) {
      const model = await load(fixture('models', 'sdpa.pt'), device);
      const small = onDevice(
        [1, 2, 3].map((seed) => noise([1, 2, 16, 64], { seed })),
        device,
      );
      const before = await model.captureAttention(small);
      // 64 heads of 65,536 × 65,536 weights: a tebibyte that the plain forward never holds.
      const zeros = () => Tensor.zeros([1, 64, 65_536, 64], { device, dtype: 'bfloat16' });
      const large = [zeros(), zeros(), zeros()];
      for (const options of [{}, { device: 'same' }]) {
        const error = await failure(() => model.captureAttention(large, options), 'a tebibyte of weights');
        check(/memory/i.test(error.message), `message: ${error.message}`);
        check(['ERR_MODEL_RUN', 'ERR_CAPTURE_TOO_LARGE'].includes(error.code), `code: ${error.code}`);
      }
      const row = await model.captureAttention(large, { queries: [65_535], heads: [0] });
      same(row.attentions[0].weights.shape, [1, 1, 1, 65_536], 'one row of the same');
      const after = await model.captureAttention(small);
      check(
        after.attentions[0].weights
          .toTypedArray()
          .every((x, i) => x === before.attentions[0].weights.toTypedArray()[i]),
        'afterwards',
      );
    },
  },
  {
    name: 'a device that is full refuses the next model run and serves again once there is room',
    cudaOnly: true,
    async run({ device }) {
      const model = await load(fixture('models', 'sdpa.pt'), device);
      const held = [];
      let size = 2 ** 33;
      while (size >= 2 ** 20) {
        try {
          held.push(Tensor.zeros([size], { device, dtype: 'uint8' }));
        } catch {
          size /= 2;
        }
      }
      check(held.length > 0, 'nothing could be allocated');
      const inputs = [1, 2, 3].map((seed) => noise([1, 8, 1024, 64], { seed }));
      const error = await failure(async () => model.captureAttention(onDevice(inputs, device)), 'a full device');
      check(/memory/i.test(error.message), `message: ${error.message}`);
      for (const each of held) each.dispose();
      same((await model.captureAttention(onDevice(inputs, device))).attentions.length, 1, 'with room');
    },
  },
];
