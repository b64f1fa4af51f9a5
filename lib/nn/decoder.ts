import type { Tensor } from '../tensor';
import { options as checkOptions, integer, invalid } from '../validate';
import { attentionMask, causalFlag, paddingMask, type Sequence, sameBatch, sequence } from './arguments';
import { checkNorm } from './encoder';
import type { LayerNorm } from './layer-norm';
import { type Named, NnModule, type RunOptions } from './module';
import { type CheckedLayerOptions, LAYER_OPTIONS, layerOptions, type TransformerLayerOptions } from './options';

export interface DecoderForwardOptions extends RunOptions {
  /** `[T, T]` or `[B·H, T, T]`: bool, true where a key is not attended to; or floats that are added to the scores. */
  tgtMask?: Tensor | null;
  /** The same for the memory, `[T, S]` or `[B·H, T, S]`. */
  memoryMask?: Tensor | null;
  /** `[B, T]` (`[T]` without a batch): bool, true where a key is padding; or floats that are added. */
  tgtKeyPaddingMask?: Tensor | null;
  /** The same for the memory, `[B, S]`. */
  memoryKeyPaddingMask?: Tensor | null;
  /** Says that `tgtMask` is causal. Default: a layer false, a stack looks at the mask. */
  tgtIsCausal?: boolean;
  /** Says that `memoryMask` is causal. Default false. */
  memoryIsCausal?: boolean;
}

export const DECODER_ARGUMENTS = [
  'tgtMask',
  'memoryMask',
  'tgtKeyPaddingMask',
  'memoryKeyPaddingMask',
  'tgtIsCausal',
  'memoryIsCausal',
];

/** Checks the named arguments of a decoder. */
export function checkDecoderMasks(
  given: Record<string, unknown>,
  tgt: Sequence,
  memory: Sequence,
  nhead: number,
): Named {
  const tgtMask = attentionMask(given.tgtMask, 'tgtMask', tgt, tgt, nhead);
  const memoryMask = attentionMask(given.memoryMask, 'memoryMask', tgt, memory, nhead);
  return {
    tgtMask,
    memoryMask,
    tgtKeyPaddingMask: paddingMask(given.tgtKeyPaddingMask, 'tgtKeyPaddingMask', tgt),
    memoryKeyPaddingMask: paddingMask(given.memoryKeyPaddingMask, 'memoryKeyPaddingMask', memory),
    tgtIsCausal: causalFlag(given.tgtIsCausal, 'tgtIsCausal', tgtMask, 'tgtMask'),
    memoryIsCausal: causalFlag(given.memoryIsCausal, 'memoryIsCausal', memoryMask, 'memoryMask'),
  };
}

function checkDecoderCall(
  inputs: readonly unknown[],
  given: Record<string, unknown>,
  { dModel, batchFirst, nhead }: CheckedLayerOptions,
): Named {
  if (inputs.length !== 2) throw invalid('tgt and memory', 'inputs', inputs);
  const tgt = sequence(inputs[0], 'tgt', dModel, batchFirst);
  const memory = sequence(inputs[1], 'memory', dModel, batchFirst);
  sameBatch(tgt, 'tgt', memory, 'memory');
  return checkDecoderMasks(given, tgt, memory, nhead);
}

/** One layer: self-attention, attention to a memory, a feed-forward block, as PyTorch's `nn.TransformerDecoderLayer`. */
export class TransformerDecoderLayer extends NnModule<Tensor> {
  /** @internal */
  protected override readonly namedArguments = DECODER_ARGUMENTS;
  /** @internal */
  readonly options: CheckedLayerOptions;

  constructor(options: TransformerLayerOptions) {
    const checked = layerOptions(checkOptions(options, LAYER_OPTIONS, 'the options of TransformerDecoderLayer'));
    super('TransformerDecoderLayer', checked);
    this.options = checked;
  }

  /** `tgt`: `[B, T, dModel]`, `[T, B, dModel]` without `batchFirst`, or `[T, dModel]`; `memory` the same with S for T. */
  forward(tgt: Tensor, memory: Tensor, options?: DecoderForwardOptions): Promise<Tensor> {
    return this.run([tgt, memory], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    return checkDecoderCall(inputs, given, this.options);
  }
}

/** A stack of copies of `layer`, as PyTorch's `nn.TransformerDecoder`. */
export class TransformerDecoder extends NnModule<Tensor> {
  /** @internal */
  protected override readonly namedArguments = DECODER_ARGUMENTS;
  /** @internal */
  readonly options: CheckedLayerOptions;

  /** `options.norm`: normalization of the output, shared with this decoder, not copied. */
  constructor(layer: TransformerDecoderLayer, numLayers: number, options?: { norm?: LayerNorm | null }) {
    if (!(layer instanceof TransformerDecoderLayer)) throw invalid('a TransformerDecoderLayer', 'layer', layer);
    integer(numLayers, 'numLayers', 1);
    const given = checkOptions(options, ['norm'], 'the options of TransformerDecoder');
    const norm = checkNorm(given.norm, layer.options.dModel);
    super('TransformerDecoder', { numLayers }, { layer, norm });
    this.options = layer.options;
  }

  /** `tgt`: `[B, T, dModel]`, `[T, B, dModel]` without `batchFirst`, or `[T, dModel]`; `memory` the same with S for T. */
  forward(tgt: Tensor, memory: Tensor, options?: DecoderForwardOptions): Promise<Tensor> {
    return this.run([tgt, memory], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    return checkDecoderCall(inputs, given, this.options);
  }
}
