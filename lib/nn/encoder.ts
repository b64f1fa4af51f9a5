import type { Tensor } from '../core/tensor';
import { options as checkOptions, integer, optionalBoolean } from '../core/validate';
import type { RunOptions } from '../model/run-options';
import { attentionArguments, namesOf, sequence } from './arguments';
import { checkNorm, type LayerNorm } from './layer-norm';
import { checkPart, type Named, NnModule } from './module';
import { type CheckedLayerOptions, checkLayers, singleLayer, type TransformerLayerOptions } from './options';

/**
 * The named arguments of an encoder.
 *
 * @example
 * const named: nn.EncoderArguments = { srcKeyPaddingMask: Tensor.from([[false, false, true]]) };
 */
export interface EncoderArguments {
  /** `[T, T]` or `[B·H, T, T]`: bool, true where a key is not attended to; or floats that are added to the scores. */
  srcMask?: Tensor | null | undefined;
  /** `[B, T]` (`[T]` without a batch): bool, true where a key is padding; or floats that are added. */
  srcKeyPaddingMask?: Tensor | null | undefined;
  /** Says that `srcMask` is causal, which has to be there. Default: a layer false, a stack looks at the mask. */
  isCausal?: boolean | null | undefined;
}

/**
 * Options of an encoder's forward.
 *
 * @example
 * const options: nn.EncoderForwardOptions = { srcKeyPaddingMask: mask, grad: true };
 */
export interface EncoderForwardOptions extends EncoderArguments, RunOptions {}

const SELF = { mask: 'srcMask', padding: 'srcKeyPaddingMask', causal: 'isCausal' };

/** What encoders have in common: one input, one mask of each kind. */
export abstract class EncoderModule extends NnModule<Tensor, EncoderArguments, Tensor> {
  /** @internal */
  protected override readonly callOptions = namesOf(SELF);
  /** @internal */
  protected override readonly inputNames = ['src'];
  /** @internal */
  readonly options: CheckedLayerOptions;
  /** Features of the input. */
  readonly #features: number;

  /** @internal */
  protected constructor(
    type: string,
    options: CheckedLayerOptions,
    { features, ...more }: { features?: number } & Record<string, unknown> = {},
    parts: { layer?: TransformerEncoderLayer; norm?: LayerNorm | undefined } = {},
  ) {
    super(type, { ...options, ...more }, parts);
    this.options = options;
    this.#features = features ?? options.dModel;
  }

  /**
   * Runs the encoder, on a thread of the addon's own.
   *
   * @param src `[B, T, E]`, `[T, B, E]` without `batchFirst`, or `[T, E]`, where E is `dModel` (`dInput` of a
   *   `TransformerModel`).
   * @param options Masks, flags, and limits of the run.
   * @returns Of the shape of `src`, with `dOutput` for E of a `TransformerModel`.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where shapes, types or masks don't fit, `ERR_MODEL_RUN`, `ERR_HOOK_FAILED`,
   *   `ERR_TIME_LIMIT`, `ERR_MEMORY_LIMIT`, `ERR_DISPOSED`; the signal's reason where it was aborted.
   *
   * @example
   * const output = await encoder.forward(src, { srcKeyPaddingMask: Tensor.from([[false, false, false, true]]) });
   */
  forward(src: Tensor, options?: EncoderForwardOptions): Promise<Tensor> {
    return this.run([src], options);
  }

  /**
   * The same on the calling thread, which it blocks, as `ScriptModule.forwardSync`.
   *
   * @param src As of `forward`.
   * @param options As of `forward`. A `signal` counts if it is aborted before, or by a hook.
   * @returns As `forward`.
   * @throws TorchError as `forward`; `ERR_MODEL_RUN` while parameters are moved or loaded, and in a hook that a run of the
   *   module waits for; `ERR_HOOK_FAILED` where a hook returns a promise. Throws the signal's reason where it was aborted.
   *
   * @example
   * const output = encoder.forwardSync(src);
   */
  forwardSync(src: Tensor, options?: EncoderForwardOptions): Tensor {
    return this.runSync([src], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    const src = sequence(inputs[0], 'src', this.#features, this.options.batchFirst);
    return attentionArguments(given, SELF, src, src, this.options.nhead);
  }
}

/**
 * One layer: self-attention and a feed-forward block, as PyTorch's `nn.TransformerEncoderLayer`.
 *
 * @example
 * const layer = new nn.TransformerEncoderLayer({ dModel: 512, nhead: 8, batchFirst: true }).eval();
 */
export class TransformerEncoderLayer extends EncoderModule {
  /**
   * Makes a layer with random weights, in training mode.
   *
   * @param options Sizes, and how the layer is made.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for options out of range, also for sizes beyond the memory of the
   *   machine.
   */
  constructor(options: TransformerLayerOptions) {
    super('TransformerEncoderLayer', singleLayer(options, 'encoder'));
  }
}

/**
 * Options of `nn.TransformerEncoder`.
 *
 * @example
 * const options: nn.TransformerEncoderOptions = { norm: new nn.LayerNorm(512), enableNestedTensor: false };
 */
export interface TransformerEncoderOptions {
  /** Normalization of the output. Shared with this encoder, not copied. */
  norm?: LayerNorm | null;
  /** In evaluation mode, leave out padding at the ends of sequences where possible; such positions come out as zeros. Default true. */
  enableNestedTensor?: boolean;
}

/**
 * A stack of copies of `layer`, as PyTorch's `nn.TransformerEncoder`. Hooks on `layer` stay on it alone: PyTorch copies them
 * too, but no handle would remove such a copy.
 *
 * @example
 * const layer = new nn.TransformerEncoderLayer({ dModel: 512, nhead: 8, batchFirst: true });
 * const stack = new nn.TransformerEncoder(layer, 6, { norm: new nn.LayerNorm(512) }).eval();
 */
export class TransformerEncoder extends EncoderModule {
  /**
   * Makes a stack, in training mode.
   *
   * @param layer The layer to copy, with its weights.
   * @param numLayers How many, at least 1.
   * @param options Normalization of the output, and what is done with padding.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for what is no layer, or a `numLayers` below 1 or beyond the memory of
   *   the machine; `ERR_DISPOSED`.
   */
  constructor(layer: TransformerEncoderLayer, numLayers: number, options?: TransformerEncoderOptions) {
    checkPart(layer, TransformerEncoderLayer, 'layer');
    integer(numLayers, 'numLayers', 1);
    const given = checkOptions(options, ['norm', 'enableNestedTensor'], 'the options of TransformerEncoder');
    const norm = checkNorm(given.norm, layer.options);
    const enableNestedTensor = optionalBoolean(given.enableNestedTensor, 'enableNestedTensor') ?? true;
    checkLayers(layer.options, { encoder: numLayers }, { numLayers });
    super('TransformerEncoder', layer.options, { numLayers, enableNestedTensor }, { layer, norm });
  }
}
