import type { Tensor } from '../core/tensor';
import { options as checkOptions, integer } from '../core/validate';
import type { RunOptions } from '../model/run-options';
import { attentionArguments, namesOf, type Sequence, sameBatch, sequence } from './arguments';
import { checkNorm, type LayerNorm } from './layer-norm';
import { checkPart, type Named, NnModule } from './module';
import { type CheckedLayerOptions, checkLayers, singleLayer, type TransformerLayerOptions } from './options';

/**
 * The named arguments of a decoder.
 *
 * @example
 * const named: nn.DecoderArguments = { memoryKeyPaddingMask: mask };
 */
export interface DecoderArguments {
  /** `[T, T]` or `[B·H, T, T]`: bool, true where a key is not attended to; or floats that are added to the scores. */
  tgtMask?: Tensor | null | undefined;
  /** The same for the memory, `[T, S]` or `[B·H, T, S]`. */
  memoryMask?: Tensor | null | undefined;
  /** `[B, T]` (`[T]` without a batch): bool, true where a key is padding; or floats that are added. */
  tgtKeyPaddingMask?: Tensor | null | undefined;
  /** The same for the memory, `[B, S]`. */
  memoryKeyPaddingMask?: Tensor | null | undefined;
  /** Says that `tgtMask` is causal, which has to be there. Default: a layer false, a stack looks at the mask. */
  tgtIsCausal?: boolean | null | undefined;
  /** Says that `memoryMask` is causal, which has to be there. Default false. */
  memoryIsCausal?: boolean | null | undefined;
}

/**
 * Options of a decoder's forward.
 *
 * @example
 * const options: nn.DecoderForwardOptions = { memoryKeyPaddingMask: mask, grad: true };
 */
export interface DecoderForwardOptions extends DecoderArguments, RunOptions {}

const SELF = { mask: 'tgtMask', padding: 'tgtKeyPaddingMask', causal: 'tgtIsCausal' };
const CROSS = { mask: 'memoryMask', padding: 'memoryKeyPaddingMask', causal: 'memoryIsCausal' };

export const DECODER_ARGUMENTS = namesOf(SELF, CROSS);

/** Checks the named arguments of a decoder. */
export function decoderArguments(
  given: Record<string, unknown>,
  tgt: Sequence,
  memory: Sequence,
  nhead: number,
): Named {
  return {
    ...attentionArguments(given, SELF, tgt, tgt, nhead),
    ...attentionArguments(given, CROSS, tgt, memory, nhead),
  };
}

/** What decoders have in common: a target, a memory, a mask of each kind for both. */
export abstract class DecoderModule extends NnModule<Tensor, DecoderArguments, Tensor> {
  /** @internal */
  protected override readonly callOptions = DECODER_ARGUMENTS;
  /** @internal */
  protected override readonly inputNames = ['tgt', 'memory'];
  /** @internal */
  readonly options: CheckedLayerOptions;

  /** @internal */
  protected constructor(
    type: string,
    options: CheckedLayerOptions,
    more: Record<string, unknown> = {},
    parts: { layer?: TransformerDecoderLayer; norm?: LayerNorm | undefined } = {},
  ) {
    super(type, { ...options, ...more }, parts);
    this.options = options;
  }

  /**
   * Runs the decoder, on a thread of the addon's own.
   *
   * @param tgt `[B, T, dModel]`, `[T, B, dModel]` without `batchFirst`, or `[T, dModel]`.
   * @param memory What an encoder gave: the same with S for T.
   * @param options Masks, flags, and limits of the run.
   * @returns Of the shape of `tgt`.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where shapes, types or masks don't fit, `ERR_MODEL_RUN`, `ERR_HOOK_FAILED`,
   *   `ERR_TIME_LIMIT`, `ERR_MEMORY_LIMIT`, `ERR_DISPOSED`; the signal's reason where it was aborted.
   *
   * @example
   * const decoder = new nn.TransformerDecoderLayer({ dModel: 64, nhead: 4, batchFirst: true }).eval();
   * const output = await decoder.forward(Tensor.zeros([1, 3, 64]), Tensor.zeros([1, 7, 64]));
   */
  forward(tgt: Tensor, memory: Tensor, options?: DecoderForwardOptions): Promise<Tensor> {
    return this.run([tgt, memory], options);
  }

  /**
   * The same on the calling thread, which it blocks, as `ScriptModule.forwardSync`.
   *
   * @param tgt As of `forward`.
   * @param memory As of `forward`.
   * @param options As of `forward`. A `signal` counts if it is aborted before, or by a hook.
   * @returns Of the shape of `tgt`.
   * @throws TorchError as `forward`; `ERR_MODEL_RUN` while parameters are moved or loaded, and in a hook that a run of the
   *   module waits for; `ERR_HOOK_FAILED` where a hook returns a promise. Throws the signal's reason where it was aborted.
   *
   * @example
   * const decoder = new nn.TransformerDecoderLayer({ dModel: 64, nhead: 4, batchFirst: true }).eval();
   * const output = decoder.forwardSync(Tensor.zeros([1, 3, 64]), Tensor.zeros([1, 7, 64]));
   */
  forwardSync(tgt: Tensor, memory: Tensor, options?: DecoderForwardOptions): Tensor {
    return this.runSync([tgt, memory], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    const { dModel, batchFirst, nhead } = this.options;
    const tgt = sequence(inputs[0], 'tgt', dModel, batchFirst);
    const memory = sequence(inputs[1], 'memory', dModel, batchFirst);
    sameBatch(tgt, 'tgt', memory, 'memory');
    return decoderArguments(given, tgt, memory, nhead);
  }
}

/**
 * One layer: self-attention, attention to a memory, a feed-forward block, as PyTorch's `nn.TransformerDecoderLayer`.
 *
 * @example
 * const layer = new nn.TransformerDecoderLayer({ dModel: 512, nhead: 8, normFirst: true }).eval();
 */
export class TransformerDecoderLayer extends DecoderModule {
  /**
   * Makes a layer with random weights, in training mode.
   *
   * @param options Sizes, and how the layer is made.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for options out of range, also for sizes beyond the memory of the
   *   machine.
   */
  constructor(options: TransformerLayerOptions) {
    super('TransformerDecoderLayer', singleLayer(options, 'decoder'));
  }
}

/**
 * A stack of copies of `layer`, as PyTorch's `nn.TransformerDecoder`. Hooks on `layer` stay on it alone: PyTorch copies them
 * too, but no handle would remove such a copy.
 *
 * @example
 * const layer = new nn.TransformerDecoderLayer({ dModel: 512, nhead: 8, batchFirst: true });
 * const stack = new nn.TransformerDecoder(layer, 6).eval();
 */
export class TransformerDecoder extends DecoderModule {
  /**
   * Makes a stack, in training mode.
   *
   * @param layer The layer to copy, with its weights.
   * @param numLayers How many, at least 1.
   * @param options `norm`: normalization of the output, shared with this decoder, not copied.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for what is no layer, or a `numLayers` below 1 or beyond the memory of
   *   the machine; `ERR_DISPOSED`.
   */
  constructor(layer: TransformerDecoderLayer, numLayers: number, options?: { norm?: LayerNorm | null }) {
    checkPart(layer, TransformerDecoderLayer, 'layer');
    integer(numLayers, 'numLayers', 1);
    const { norm } = checkOptions(options, ['norm'], 'the options of TransformerDecoder');
    const checkedNorm = checkNorm(norm, layer.options);
    checkLayers(layer.options, { decoder: numLayers }, { numLayers });
    super('TransformerDecoder', layer.options, { numLayers }, { layer, norm: checkedNorm });
  }
}
