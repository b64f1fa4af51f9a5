import type { Attention } from './attention';
import { native } from './binding';
import { TorchError } from './errors';
import { fromHandle, handleOf, Tensor } from './tensor';
import { options as checkOptions, invalid, optionalChoice } from './validate';

export interface RolloutOptions {
  /** How the heads of a layer become one matrix. Default `'mean'`, as in the paper. */
  headFusion?: 'mean' | 'max' | 'min';
}

type Layer = Pick<Attention, 'weights' | 'gradient' | 'keys'>;

function checkSquare(tensor: Tensor, dims: readonly number[], what: string, first: Tensor): void {
  const { shape } = tensor;
  const size = shape.at(-1);
  if (!dims.includes(shape.length) || shape.at(-2) !== size) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected self-attention of all queries and keys, [B, H, T, T], for ${what} but received shape [${shape.join(', ')}]`,
    );
  }
  if (shape[0] !== first.shape[0] || size !== first.shape.at(-1)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected the same batch and length for ${what} as for the first layer, [${first.shape.join(', ')}], but received [${shape.join(', ')}]`,
    );
  }
}

function checkLayers(attentions: unknown): readonly (Layer | Tensor)[] {
  if (!Array.isArray(attentions)) throw invalid('an array of attentions', 'attentions', attentions);
  if (attentions.length === 0)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected at least one attention but received none');
  attentions.forEach((each: Layer | Tensor, i) => {
    // Square where there are no more keys than that, but its columns are no positions.
    if (each instanceof Tensor || !each?.keys) return;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected attentions of all keys but attention ${i} was captured with topK`,
    );
  });
  return attentions as (Layer | Tensor)[];
}

/**
 * Attention rollout (Abnar & Zuidema 2020): how much of each input position reaches each position of the last layer,
 * R = A'_L · … · A'₁ with A' = ½ A + ½ I, normalised by rows.
 *
 * @param attentions The self-attentions of all layers in order, whole (all queries and heads), or their weights.
 * @returns `[B, T, T]`, on the weights' device.
 */
export function attentionRollout(attentions: readonly (Layer | Tensor)[], options?: RolloutOptions): Tensor {
  const { headFusion } = checkOptions(options, ['headFusion'], 'the options of attentionRollout');
  const fusion = optionalChoice(headFusion, ['mean', 'max', 'min'], 'headFusion') ?? 'mean';
  const weights = checkLayers(attentions).map((each) => (each instanceof Tensor ? each : each?.weights));
  const handles = weights.map((each, i) => handleOf(each, `the weights of attention ${i}`));
  weights.forEach((each, i) => {
    checkSquare(each, [3, 4], `attention ${i}`, weights[0] as Tensor);
  });
  return fromHandle(native((addon) => addon.attentionRollout(handles, fusion)));
}

/**
 * Gradient-weighted relevance (Chefer, Gur & Wolf 2021): R ← R + Ā·R with Ā the mean over heads of the positive part of
 * gradient times weights, from R = I.
 *
 * @param attentions The self-attentions of all layers in order, captured with `gradientOf`.
 * @returns `[B, T, T]`, on the weights' device; row q tells what position q of the last layer owes to each input position.
 */
export function attentionRelevance(attentions: readonly Layer[]): Tensor {
  const layers = checkLayers(attentions) as readonly Layer[];
  const weights = layers.map((each, i) => handleOf(each?.weights, `the weights of attention ${i}`));
  const gradients = layers.map((each, i) => {
    if (!each.gradient) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected attentions captured with gradientOf but attention ${i} has no gradient`,
      );
    }
    checkSquare(each.weights, [4], `attention ${i}`, (layers[0] as Layer).weights);
    const gradient = handleOf(each.gradient, `the gradient of attention ${i}`);
    if (String(each.gradient.shape) !== String(each.weights.shape)) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected the shape of its weights, [${each.weights.shape.join(', ')}], for the gradient of attention ${i} but ` +
          `received [${each.gradient.shape.join(', ')}]`,
      );
    }
    return gradient;
  });
  return fromHandle(native((addon) => addon.attentionRelevance(weights, gradients)));
}
