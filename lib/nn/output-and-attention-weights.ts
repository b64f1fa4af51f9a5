import type { Tensor } from '../core/tensor';
import { invalid } from '../core/validate';
import { HookableModel } from '../model/hookable-model';
import { TransformerEncoder, TransformerEncoderLayer } from './encoder';
import { TransformerModel } from './transformer-model';

/**
 * Runs an encoder without gradients and gives the weights of the self-attention of each of its layers beside the output.
 * Its attentions return their weights in this run, as with `setNeedWeights`, where hooks see them; other runs of the model at
 * the same time don't notice, and no flag and no hook is left behind.
 *
 * @param model A `TransformerModel`, `TransformerEncoder` or `TransformerEncoderLayer`.
 * @param inputs Its `src`.
 * @param srcMask `[T, T]` or `[B·H, T, T]`, as for `forward`.
 * @returns `attentionWeights`: `[B, H, T, T]` of each layer, in their order.
 * @throws TorchError `ERR_INVALID_ARGUMENT` for another model, or inputs that don't fit; otherwise as `forward`.
 *
 * @example
 * const { output, attentionWeights } = await getOutputAndAttentionWeights(encoder, src);
 * console.log(output.shape, attentionWeights.length);
 */
export async function getOutputAndAttentionWeights(
  model: TransformerModel | TransformerEncoder | TransformerEncoderLayer,
  inputs: Tensor,
  srcMask?: Tensor | null,
): Promise<{ output: Tensor; attentionWeights: Tensor[] }> {
  const types = [TransformerModel, TransformerEncoder, TransformerEncoderLayer];
  if (!HookableModel.is(model) || !types.some((type) => model instanceof type)) {
    throw invalid('a TransformerModel, TransformerEncoder or TransformerEncoderLayer', 'model', model);
  }
  const { output, attentions } = await model.captureNeedingWeights([inputs], { srcMask });
  return { output, attentionWeights: attentions.map(({ weights }) => weights) };
}
