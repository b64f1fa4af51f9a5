import { fill, fixture, listed, load, readTensors, unlessBoundToCpu } from '../cases.mjs';
import { check, close, onDevice, same, tolerance, torch } from '../compare.mjs';

const allowed = tolerance('float32', 1e-4);

export const checks = listed('generation', 'generation.json').map((each) => ({
  name: each.name,
  async run({ device }) {
    const tensors = await readTensors(fixture('generation', 'generation.safetensors'));
    const model = await load(fixture('generation', each.file), device);
    const steps = [];
    const next = (output, step) => {
      const following = each.steps[step + 1];
      return following && onDevice(fill(following.inputs, tensors, output), device);
    };
    await unlessBoundToCpu(device, async () => {
      const inputs = onDevice(fill(each.steps[0].inputs, tensors), device);
      for await (const step of model.captureGeneration(inputs, next, { method: each.method })) steps.push(step);
    });
    same(steps.length, each.steps.length, 'steps');
    for (const [i, { output, attentions }] of steps.entries()) {
      const expected = each.steps[i];
      close(output[0], tensors.tensor(expected.logits.$tensor), 1e-3, `logits of step ${i}`);
      same(attentions.length, expected.attentions.length, `attentions of step ${i}`);
      attentions.forEach(({ weights }, k) => {
        close(weights, tensors.tensor(expected.attentions[k].weights.$tensor), allowed, `step ${i}, attention ${k}`);
      });
    }
    for (const where of ['cpu', device]) {
      const placed = steps.map(({ attentions }) => ({
        attentions: attentions.map((one) => ({ ...one, weights: one.weights.to({ device: where }) })),
      }));
      const whole = await torch.assembleAttention(placed);
      check(
        whole.length > 0 && whole.every(({ weights }) => weights.device.startsWith(where)),
        `assembled on ${where}`,
      );
      // What the fixtures assemble is told by position alone where layers have the rows of every step.
      whole.forEach(({ weights }, i) => {
        const reference = each.whole[i] && tensors.tensor(each.whole[i].weights.$tensor);
        if (reference?.shape.join() === weights.shape.join()) close(weights, reference, allowed, `assembled ${i}`);
      });
    }
  },
}));
