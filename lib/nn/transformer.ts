import { TorchError } from '../core/errors';
import type { Tensor } from '../core/tensor';
import { options as checkOptions, integer } from '../core/validate';
import type { RunOptions } from '../model/run-options';
import { attentionArguments, namesOf, sameBatch, sequence } from './arguments';
import { DECODER_ARGUMENTS, type DecoderArguments, decoderArguments, TransformerDecoder } from './decoder';
import { TransformerEncoder } from './encoder';
import { checkPart, type Named, NnModule } from './module';
import {
  type CheckedLayerOptions,
  checkLayers,
  LAYER_OPTIONS,
  layerOptions,
  type TransformerLayerOptions,
} from './options';

/**
 * Options of `nn.Transformer`: those of its layers, and how many there are.
 *
 * @example
 * const options: nn.TransformerOptions = { dModel: 256, nhead: 4, numEncoderLayers: 3, numDecoderLayers: 3 };
 */
export interface TransformerOptions extends Partial<TransformerLayerOptions> {
  /** Layers of the encoder, at least 1. Default 6. */
  numEncoderLayers?: number;
  /** Layers of the decoder, at least 1. Default 6. */
  numDecoderLayers?: number;
  /** An encoder to use instead, shared with its hooks, not copied. Its matrices are drawn anew, as in PyTorch: load weights afterwards. */
  customEncoder?: TransformerEncoder | null;
  /** The same for the decoder. */
  customDecoder?: TransformerDecoder | null;
}

/**
 * The named arguments of a transformer.
 *
 * @example
 * const named: nn.TransformerArguments = { srcKeyPaddingMask: mask, memoryKeyPaddingMask: mask };
 */
export interface TransformerArguments extends DecoderArguments {
  /** `[S, S]` or `[B·H, S, S]`: bool, true where a key is not attended to; or floats that are added to the scores. */
  srcMask?: Tensor | null | undefined;
  /** `[B, S]` (`[S]` without a batch): bool, true where a key is padding; or floats that are added. */
  srcKeyPaddingMask?: Tensor | null | undefined;
  /** Says that `srcMask` is causal, which has to be there. Default: the encoder looks at the mask. */
  srcIsCausal?: boolean | null | undefined;
}

/**
 * Options of a transformer's forward.
 *
 * @example
 * const options: nn.TransformerForwardOptions = { srcKeyPaddingMask: mask, grad: true };
 */
export interface TransformerForwardOptions extends TransformerArguments, RunOptions {}

const ENCODING = { mask: 'srcMask', padding: 'srcKeyPaddingMask', causal: 'srcIsCausal' };

function checkCustom<Part extends TransformerEncoder | TransformerDecoder>(
  value: Part | null | undefined,
  type: abstract new (...args: never[]) => Part,
  what: string,
  layer: CheckedLayerOptions,
): Part | undefined {
  if (value === undefined || value === null) return undefined;
  checkPart(value, type, what);
  for (const name of ['dModel', 'batchFirst'] as const) {
    if (value.options[name] !== layer[name]) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected ${what} to have the transformer's ${name} (${layer[name]}) but received one with ${value.options[name]}`,
      );
    }
  }
  return value;
}

/**
 * Encoder and decoder, as PyTorch's `nn.Transformer`. Defaults: `dModel` 512, `nhead` 8.
 *
 * @example
 * const transformer = new nn.Transformer({ dModel: 256, nhead: 4, batchFirst: true }).eval();
 */
export class Transformer extends NnModule<Tensor, TransformerArguments, Tensor> {
  /** @internal */
  protected override readonly callOptions = [...namesOf(ENCODING), ...DECODER_ARGUMENTS];
  /** @internal */
  protected override readonly inputNames = ['src', 'tgt'];
  readonly #layer: CheckedLayerOptions;
  readonly #heads: { encoder: number; decoder: number };

  /**
   * Makes a transformer with random weights, in training mode.
   *
   * @param options Sizes, numbers of layers, and parts to use instead.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for options out of range, for parts that don't fit one another, and for
   *   sizes beyond the memory of the machine; `ERR_DISPOSED`.
   */
  constructor(options: TransformerOptions = {}) {
    const given = checkOptions(
      options,
      [...LAYER_OPTIONS, 'numEncoderLayers', 'numDecoderLayers', 'customEncoder', 'customDecoder'],
      'the options of Transformer',
    );
    const layer = layerOptions({ ...given, dModel: given.dModel ?? 512, nhead: given.nhead ?? 8 });
    const numEncoderLayers = integer(given.numEncoderLayers ?? 6, 'numEncoderLayers', 1);
    const numDecoderLayers = integer(given.numDecoderLayers ?? 6, 'numDecoderLayers', 1);
    const customEncoder = checkCustom(given.customEncoder, TransformerEncoder, 'customEncoder', layer);
    const customDecoder = checkCustom(given.customDecoder, TransformerDecoder, 'customDecoder', layer);
    const made = { encoder: customEncoder ? 0 : numEncoderLayers, decoder: customDecoder ? 0 : numDecoderLayers };
    checkLayers(layer, made, { numEncoderLayers, numDecoderLayers });
    super('Transformer', { ...layer, numEncoderLayers, numDecoderLayers }, { customEncoder, customDecoder });
    this.#layer = layer;
    this.#heads = {
      encoder: customEncoder?.options.nhead ?? layer.nhead,
      decoder: customDecoder?.options.nhead ?? layer.nhead,
    };
  }

  /**
   * Runs encoder and decoder, on a thread of the addon's own.
   *
   * @param src `[B, S, dModel]`, `[S, B, dModel]` without `batchFirst`, or `[S, dModel]`.
   * @param tgt The same with T for S.
   * @param options Masks, flags, and limits of the run.
   * @returns Of the shape of `tgt`.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where shapes, types or masks don't fit, `ERR_MODEL_RUN`, `ERR_HOOK_FAILED`,
   *   `ERR_TIME_LIMIT`, `ERR_MEMORY_LIMIT`, `ERR_DISPOSED`; the signal's reason where it was aborted.
   *
   * @example
   * const transformer = new nn.Transformer({ dModel: 64, nhead: 4, batchFirst: true }).eval();
   * const output = await transformer.forward(Tensor.zeros([1, 7, 64]), Tensor.zeros([1, 3, 64]));
   */
  forward(src: Tensor, tgt: Tensor, options?: TransformerForwardOptions): Promise<Tensor> {
    return this.run([src, tgt], options);
  }

  /**
   * The same on the calling thread, which it blocks, as `ScriptModule.forwardSync`.
   *
   * @param src As of `forward`.
   * @param tgt As of `forward`.
   * @param options As of `forward`. A `signal` counts if it is aborted before, or by a hook.
   * @returns Of the shape of `tgt`.
   * @throws TorchError as `forward`; `ERR_MODEL_RUN` while parameters are moved or loaded, and in a hook that a run of the
   *   module waits for; `ERR_HOOK_FAILED` where a hook returns a promise. Throws the signal's reason where it was aborted.
   *
   * @example
   * const transformer = new nn.Transformer({ dModel: 64, nhead: 4, batchFirst: true }).eval();
   * const output = transformer.forwardSync(Tensor.zeros([1, 7, 64]), Tensor.zeros([1, 3, 64]));
   */
  forwardSync(src: Tensor, tgt: Tensor, options?: TransformerForwardOptions): Tensor {
    return this.runSync([src, tgt], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    const { dModel, batchFirst } = this.#layer;
    const src = sequence(inputs[0], 'src', dModel, batchFirst);
    const tgt = sequence(inputs[1], 'tgt', dModel, batchFirst);
    sameBatch(src, 'src', tgt, 'tgt');
    return {
      ...attentionArguments(given, ENCODING, src, src, this.#heads.encoder),
      ...decoderArguments(given, tgt, src, this.#heads.decoder),
    };
  }
}
