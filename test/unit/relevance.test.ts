import { join } from 'node:path';
import { attentionRelevance, attentionRollout, ScriptModule, Tensor, type Value } from '../../lib/index';
import { Data, difference, folder, type GradientCase, plain, readGradientCases } from './hook-fixtures';

async function capture(given: GradientCase) {
  const data = await Data.read('gradients.safetensors');
  const model = await ScriptModule.load(join(folder, given.files[0] as string));
  const { attentions } = await model.captureAttention(data.tensors(given.inputs) as Value[], {
    gradientOf: (output) => {
      let row = (output as Tensor).select(0, 0);
      if (row.shape.length === 2) row = row.select(0, 0);
      return row.select(0, 1);
    },
  });
  model.dispose();
  return { attentions, data };
}

describe('attentionRollout and attentionRelevance', () => {
  describe.each(readGradientCases())('$name', (given) => {
    test.each(['mean', 'max', 'min'] as const)(
      'rollout is the formula of the paper (%s over heads)',
      async (headFusion) => {
        const { attentions, data } = await capture(given);
        const expected = data.numbers(given.rollout[headFusion]);
        expect(difference(plain(attentionRollout(attentions, { headFusion })), expected, 1e-5)).toBeUndefined();
        const weights = attentions.map((each) => each.weights);
        expect(difference(plain(attentionRollout(weights, { headFusion })), expected, 1e-5)).toBeUndefined();
      },
    );

    test('relevance is the formula of the paper', async () => {
      const { attentions, data } = await capture(given);
      expect(difference(plain(attentionRelevance(attentions)), data.numbers(given.relevance), 1e-5)).toBeUndefined();
    });
  });

  describe('what has no rollout and no relevance', () => {
    const zeros = (...shape: number[]) =>
      Tensor.from(new Float32Array(shape.reduce((product, size) => product * size, 1)), { shape });
    test.each<[string, () => unknown]>([
      ['no attentions', () => attentionRollout([])],
      ['no array', () => attentionRollout(3 as never)],
      ['cross-attention', () => attentionRollout([zeros(1, 2, 3, 4)])],
      ['layers of different length', () => attentionRollout([zeros(1, 2, 3, 3), zeros(1, 2, 4, 4)])],
      ['an unknown head fusion', () => attentionRollout([zeros(1, 2, 3, 3)], { headFusion: 'sum' as never })],
      ['attentions without gradient', () => attentionRelevance([{ weights: zeros(1, 2, 3, 3) }])],
      [
        'a gradient of another shape',
        () => attentionRelevance([{ weights: zeros(1, 2, 3, 3), gradient: zeros(1, 1, 3, 3).reshape([1, 3, 3]) }]),
      ],
      [
        'largest weights only, though there are no more',
        () => attentionRollout([{ weights: zeros(1, 2, 3, 3), keys: zeros(1, 2, 3, 3).to({ dtype: 'int64' }) }]),
      ],
      ['weights that are no tensors', () => attentionRollout([{} as never])],
    ])('%s', (_, call) => {
      expect(call).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
    });
  });
});

describe('attentionRollout', () => {
  test('rows of a rollout add up to one', async () => {
    const { attentions } = await capture(readGradientCases()[0] as GradientCase);
    const rollout = attentionRollout(attentions);
    expect(rollout.shape).toEqual([2, 5, 5]);
    for (const sum of rollout.sum(2).toTypedArray()) expect(Number(sum)).toBeCloseTo(1, 5);
  });

  test('the default is the mean over heads; heads that were averaged before will do', async () => {
    const { attentions } = await capture(readGradientCases()[0] as GradientCase);
    const mean = attentions.map(({ weights }) => weights.mean(1));
    const expected = plain(attentionRollout(attentions, { headFusion: 'mean' }));
    expect(plain(attentionRollout(attentions))).toEqual(expected);
    expect(difference(plain(attentionRollout(mean)), expected, 1e-6)).toBeUndefined();
  });
});
