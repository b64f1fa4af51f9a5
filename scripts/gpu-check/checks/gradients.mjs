import { fill, fixture, listed, load, readTensors } from '../cases.mjs';
import { check, difference, numbers, onDevice, same, torch } from '../compare.mjs';

const { attentionRelevance, attentionRollout } = torch;

/** The scalar of the fixtures: a logit of the first element, at its first position where there are several. */
function logit(output) {
  let row = output.select(0, 0);
  if (row.shape.length === 2) row = row.select(0, 0);
  return row.select(0, 1);
}

/** That a tensor is within a part of its reference's largest element, however small that is. */
function relative(received, expected, what) {
  const largest = numbers(expected).reduce((most, each) => Math.max(most, Math.abs(each)), 0);
  check(largest > 0, `${what}: the reference is zero`);
  const worst = difference(received.to({ device: 'cpu' }).mul(1 / largest), expected.mul(1 / largest));
  check(worst <= 1e-3, `${what}: off by ${worst} of the largest`);
}

export const checks = listed('hooks', 'gradients.json').flatMap((given) =>
  given.files.map((file) => ({
    name: file,
    async run({ device }) {
      const tensors = await readTensors(fixture('hooks', 'gradients.safetensors'));
      const model = await load(fixture('hooks', file), device);
      const inputs = onDevice(fill(given.inputs, tensors), device);
      for (const where of ['cpu', 'same']) {
        const { attentions } = await model.captureAttention(inputs, { gradientOf: logit, device: where });
        same(attentions.length, given.weights.length, 'attentions');
        const [weights, gradients] = [fill(given.weights, tensors), fill(given.gradients, tensors)];
        attentions.forEach(({ weights: own, gradient }, i) => {
          check(own.device.startsWith(where === 'cpu' ? 'cpu' : device), `attention ${i} is on ${own.device}`);
          check(gradient.device === own.device, `gradient ${i} is on ${gradient.device}`);
          relative(own, weights[i], `weights ${i}`);
          relative(gradient, gradients[i], `gradient ${i}`);
        });
        relative(attentionRollout(attentions), fill(given.rollout.mean, tensors), 'rollout');
        relative(attentionRelevance(attentions), fill(given.relevance, tensors), 'relevance');
      }
    },
  })),
);
