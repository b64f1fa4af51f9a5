import type { Tensor } from '../tensor';
import { options as checkOptions, integer, invalid, optionalBoolean } from '../validate';
import { attentionMask, causalFlag, paddingMask, sequence } from './arguments';
import { LayerNorm } from './layer-norm';
import { type Named, NnModule, type RunOptions } from './module';
import { type CheckedLayerOptions, LAYER_OPTIONS, layerOptions, type TransformerLayerOptions } from './options';

export interface EncoderForwardOptions extends RunOptions {
  /** `[T, T]` or `[B·H, T, T]`: bool, true where a key is not attended to; or floats that are added to the scores. */
  srcMask?: Tensor | null;
  /** `[B, T]` (`[T]` without a batch): bool, true where a key is padding; or floats that are added. */
  srcKeyPaddingMask?: Tensor | null;
  /** Says that `srcMask` is causal. Default: a layer false, a stack looks at the mask. */
  isCausal?: boolean;
}

export const ENCODER_ARGUMENTS = ['srcMask', 'srcKeyPaddingMask', 'isCausal'];

/** Checks the arguments of an encoder whose inputs have `features` features. */
export function checkEncoderCall(
  inputs: readonly unknown[],
  given: Record<string, unknown>,
  features: number,
  { batchFirst, nhead }: CheckedLayerOptions,
): Named {
  if (inputs.length !== 1) throw invalid('one element, src', 'inputs', inputs);
  const src = sequence(inputs[0], 'src', features, batchFirst);
  const srcMask = attentionMask(given.srcMask, 'srcMask', src, src, nhead);
  return {
    srcMask,
    srcKeyPaddingMask: paddingMask(given.srcKeyPaddingMask, 'srcKeyPaddingMask', src),
    isCausal: causalFlag(given.isCausal, 'isCausal', srcMask, 'srcMask'),
  };
}

/** One layer: self-attention and a feed-forward block, as PyTorch's `nn.TransformerEncoderLayer`. */
export class TransformerEncoderLayer extends NnModule<Tensor> {
  /** @internal */
  protected override readonly namedArguments = ENCODER_ARGUMENTS;
  /** @internal */
  readonly options: CheckedLayerOptions;

  constructor(options: TransformerLayerOptions) {
    const checked = layerOptions(checkOptions(options, LAYER_OPTIONS, 'the options of TransformerEncoderLayer'));
    super('TransformerEncoderLayer', checked);
    this.options = checked;
  }

  /** `src`: `[B, T, dModel]`, `[T, B, dModel]` without `batchFirst`, or `[T, dModel]`. */
  forward(src: Tensor, options?: EncoderForwardOptions): Promise<Tensor> {
    return this.run([src], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    return checkEncoderCall(inputs, given, this.options.dModel, this.options);
  }
}

export interface TransformerEncoderOptions {
  /** Normalization of the output. Shared with this encoder, not copied. */
  norm?: LayerNorm | null;
  /** In evaluation mode, leave out padding at the ends of sequences where possible; such positions come out as zeros. Default true. */
  enableNestedTensor?: boolean;
}

/** Checks the parts of a stack. */
export function checkNorm(norm: unknown, dModel: number): LayerNorm | undefined {
  if (norm === undefined || norm === null) return undefined;
  if (!(norm instanceof LayerNorm)) throw invalid('a LayerNorm', 'norm', norm);
  if (norm.size !== dModel) throw invalid(`a LayerNorm of ${dModel} features`, 'norm', norm.size);
  return norm;
}

/** A stack of copies of `layer`, as PyTorch's `nn.TransformerEncoder`. */
export class TransformerEncoder extends NnModule<Tensor> {
  /** @internal */
  protected override readonly namedArguments = ENCODER_ARGUMENTS;
  /** @internal */
  readonly options: CheckedLayerOptions;

  constructor(layer: TransformerEncoderLayer, numLayers: number, options?: TransformerEncoderOptions) {
    if (!(layer instanceof TransformerEncoderLayer)) throw invalid('a TransformerEncoderLayer', 'layer', layer);
    integer(numLayers, 'numLayers', 1);
    const given = checkOptions(options, ['norm', 'enableNestedTensor'], 'the options of TransformerEncoder');
    const norm = checkNorm(given.norm, layer.options.dModel);
    const enableNestedTensor = optionalBoolean(given.enableNestedTensor, 'enableNestedTensor') ?? true;
    super('TransformerEncoder', { numLayers, enableNestedTensor }, { layer, norm });
    this.options = layer.options;
  }

  /** `src`: `[B, T, dModel]`, `[T, B, dModel]` without `batchFirst`, or `[T, dModel]`. */
  forward(src: Tensor, options?: EncoderForwardOptions): Promise<Tensor> {
    return this.run([src], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    return checkEncoderCall(inputs, given, this.options.dModel, this.options);
  }
}
