import { type NativeTensor, native } from '../core/binding';
import { TorchError } from '../core/errors';
import { fromHandle, handleOf, Tensor } from '../core/tensor';
import { options as checkOptions, elements, optionalChoice } from '../core/validate';
import type { Attention } from './attention';
import { type CodeScale, floatWeights } from './weight-codes';

/**
 * Options of `attentionRollout`.
 *
 * @example
 * const options: RolloutOptions = { headFusion: 'max' };
 */
export interface RolloutOptions {
  /** How the heads of a layer become one matrix. Default `'mean'`, as in the paper. */
  headFusion?: 'mean' | 'max' | 'min';
}

/**
 * What is read of an attention.
 *
 * @inline
 */
type Layer = Pick<Attention, 'weights' | 'gradient' | 'keys' | 'scale'>;

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

/** A layer as it was given, each part read once. */
interface GivenLayer {
  weights: Tensor;
  handle: NativeTensor;
  gradient: unknown;
}

function layersOf(attentions: unknown): GivenLayer[] {
  const layers = elements(attentions, 'an array of attentions', 'attentions', (each, i): GivenLayer => {
    const { weights, gradient, keys, scale } = (Tensor.is(each) ? { weights: each } : (each ?? {})) as {
      weights?: unknown;
      gradient?: unknown;
      keys?: unknown;
      scale?: unknown;
    };
    if (keys) {
      // Square where there are no more keys than that, but its columns are no positions.
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected attentions of all keys but attention ${i} was captured with topK`,
      );
    }
    const handle = handleOf(weights, `the weights of attention ${i}`);
    if ((weights as Tensor).dtype !== 'uint8') return { weights: weights as Tensor, handle, gradient };
    const codes = {
      weights: weights as Tensor,
      scale: optionalChoice(scale, ['linear', 'log'], `scale of attention ${i}`),
    };
    if (codes.scale === undefined) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected weights or attentions but received codes in uint8, without their scale, as attention ${i}; decode() gives the weights`,
      );
    }
    const decoded = floatWeights(codes as { weights: Tensor; scale: CodeScale });
    return { weights: decoded, handle: handleOf(decoded, 'weights'), gradient };
  });
  if (layers.length === 0)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected at least one attention but received none');
  return layers;
}

/**
 * Attention rollout (Abnar & Zuidema 2020): how much of each input position reaches each position of the last layer,
 * R = A'_L · … · A'₁ with A' = ½ A + ½ I, normalised by rows.
 *
 * Computed on the calling thread; T³ operations a layer.
 *
 * @param attentions The self-attentions of all layers in order, whole (all queries and heads), or their weights.
 * @param options `headFusion`: how the heads of a layer become one matrix.
 * @returns `[B, T, T]`, on the weights' device.
 * @throws TorchError `ERR_INVALID_ARGUMENT` where there is none, or some are not square, of another length, or captured with
 *   `topK`; `ERR_DISPOSED`.
 *
 * @example
 * const { attentions } = await encoder.captureAttention([src]);
 * const rollout = attentionRollout(attentions, { headFusion: 'mean' });
 */
export function attentionRollout(attentions: readonly (Layer | Tensor)[], options?: RolloutOptions): Tensor {
  const { headFusion } = checkOptions(options, ['headFusion'], 'the options of attentionRollout');
  const fusion = optionalChoice(headFusion, ['mean', 'max', 'min'], 'headFusion') ?? 'mean';
  const layers = layersOf(attentions);
  const first = (layers[0] as GivenLayer).weights;
  for (const [i, { weights }] of layers.entries()) checkSquare(weights, [3, 4], `attention ${i}`, first);
  const handles = layers.map(({ handle }) => handle);
  return fromHandle(native((addon) => addon.attentionRollout(handles, fusion)));
}

/**
 * Gradient-weighted relevance (Chefer, Gur & Wolf 2021): R ← R + Ā·R with Ā the mean over heads of the positive part of
 * gradient times weights, from R = I.
 *
 * @param attentions The self-attentions of all layers in order, captured with `gradientOf`.
 * @returns `[B, T, T]`, on the weights' device; row q tells what position q of the last layer owes to each input position.
 * @throws TorchError as `attentionRollout`; `ERR_INVALID_ARGUMENT` also where a gradient is missing.
 *
 * @example
 * const { attentions } = await encoder.captureAttention([src], { gradientOf: (output) => output.select(1, 0).sum() });
 * const relevance = attentionRelevance(attentions);
 */
export function attentionRelevance(attentions: readonly Layer[]): Tensor {
  const layers = layersOf(attentions);
  const first = (layers[0] as GivenLayer).weights;
  const gradients = layers.map(({ weights, gradient }, i) => {
    if (!gradient) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected attentions captured with gradientOf but attention ${i} has no gradient`,
      );
    }
    checkSquare(weights, [4], `attention ${i}`, first);
    const handle = handleOf(gradient, `the gradient of attention ${i}`);
    const { shape } = gradient as Tensor;
    if (String(shape) !== String(weights.shape)) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected the shape of its weights, [${weights.shape.join(', ')}], for the gradient of attention ${i} but ` +
          `received [${shape.join(', ')}]`,
      );
    }
    return handle;
  });
  const weights = layers.map(({ handle }) => handle);
  return fromHandle(native((addon) => addon.attentionRelevance(weights, gradients)));
}
