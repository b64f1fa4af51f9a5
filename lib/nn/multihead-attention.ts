import { TorchError } from '../core/errors';
import type { Tensor } from '../core/tensor';
import { options as checkOptions, integer, optionalBoolean } from '../core/validate';
import { fromNativeValue } from '../core/value';
import type { RunOptions } from '../model/run-options';
import { attentionArguments, namesOf, sameBatch, sequence } from './arguments';
import { type Named, NnModule } from './module';
import { checkHeads, checkMemory, probability } from './options';

/**
 * Options of `nn.MultiheadAttention`, PyTorch's in camelCase.
 *
 * @example
 * const options: nn.MultiheadAttentionOptions = { embedDim: 512, numHeads: 8, batchFirst: true };
 */
export interface MultiheadAttentionOptions {
  /** Features of queries and outputs, at least 1; the heads have to divide it. */
  embedDim: number;
  /** Heads, at least 1. */
  numHeads: number;
  /** Probability of dropout on the weights in training mode, from 0 to 1. Default 0. */
  dropout?: number;
  /** Whether the projections have biases. Default true. */
  bias?: boolean;
  /** Adds a learned key and value. Default false. */
  addBiasKv?: boolean;
  /** Adds a key and value of zeros. Default false. */
  addZeroAttn?: boolean;
  /** Features of keys. Default `embedDim`. */
  kdim?: number;
  /** Features of values. Default `embedDim`. */
  vdim?: number;
  /** Inputs are `[B, T, E]` instead of `[T, B, E]`. Default false. */
  batchFirst?: boolean;
}

/**
 * The named arguments of an attention.
 *
 * @example
 * const named: nn.AttentionArguments = { keyPaddingMask: mask, averageAttnWeights: false };
 */
export interface AttentionArguments {
  /** `[B, S]` (`[S]` without a batch): bool, true where a key is padding; or floats that are added. */
  keyPaddingMask?: Tensor | null | undefined;
  /** `[T, S]` or `[B·H, T, S]`: bool, true where a key is not attended to; or floats that are added. */
  attnMask?: Tensor | null | undefined;
  /** Whether to return the weights. Default: as `setNeedWeights` says, true at first. */
  needWeights?: boolean | undefined;
  /** Whether they are the mean over the heads, `[B, T, S]`, instead of `[B, H, T, S]`. Default true. */
  averageAttnWeights?: boolean | undefined;
  /** Says that `attnMask` is causal, which has to be there. Default false. */
  isCausal?: boolean | null | undefined;
}

/**
 * Options of an attention's forward.
 *
 * @example
 * const options: nn.AttentionForwardOptions = { needWeights: false, grad: true };
 */
export interface AttentionForwardOptions extends AttentionArguments, RunOptions {}

const ATTENTION = { mask: 'attnMask', padding: 'keyPaddingMask', causal: 'isCausal' };

/**
 * What an attention gives.
 *
 * @example
 * const { output, weights: mean }: nn.AttentionOutput = await attention.forward(src, src, src);
 */
export interface AttentionOutput {
  /** Of the query's shape. */
  output: Tensor;
  /** Weights before dropout, with gradients where the run records them; of a row whose keys are all masked zeros, where no fused kernel gave others. */
  weights?: Tensor;
}

const OPTIONS = [
  'embedDim',
  'numHeads',
  'dropout',
  'bias',
  'addBiasKv',
  'addZeroAttn',
  'kdim',
  'vdim',
  'batchFirst',
] as const;

/**
 * Attention of several heads, as PyTorch's `nn.MultiheadAttention`.
 *
 * @example
 * const crossAttention = new nn.MultiheadAttention({ embedDim: 512, numHeads: 8, kdim: 256, vdim: 256 }).eval();
 */
export class MultiheadAttention extends NnModule<AttentionOutput, AttentionArguments, [Tensor, Tensor | null]> {
  /** @internal */
  protected override readonly callOptions = [...namesOf(ATTENTION), 'needWeights', 'averageAttnWeights'];
  /** @internal */
  protected override readonly inputNames = ['query', 'key', 'value'];
  readonly #options: Required<MultiheadAttentionOptions>;

  /**
   * Makes an attention with random weights, in training mode.
   *
   * @param options Sizes, and how the attention is made.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for options out of range, also for sizes beyond the memory of the
   *   machine.
   */
  constructor(options: MultiheadAttentionOptions) {
    const given = checkOptions(options, OPTIONS, 'the options of MultiheadAttention');
    const embedDim = integer(given.embedDim, 'embedDim', 1);
    const numHeads = integer(given.numHeads, 'numHeads', 1);
    checkHeads(embedDim, 'embedDim', numHeads, 'numHeads');
    const checked = {
      embedDim,
      numHeads,
      dropout: probability(given.dropout, 'dropout', 0),
      bias: optionalBoolean(given.bias, 'bias') ?? true,
      addBiasKv: optionalBoolean(given.addBiasKv, 'addBiasKv') ?? false,
      addZeroAttn: optionalBoolean(given.addZeroAttn, 'addZeroAttn') ?? false,
      kdim: integer(given.kdim ?? embedDim, 'kdim', 1),
      vdim: integer(given.vdim ?? embedDim, 'vdim', 1),
      batchFirst: optionalBoolean(given.batchFirst, 'batchFirst') ?? false,
    };
    const { kdim, vdim } = checked;
    checkMemory(embedDim * (2 * embedDim + kdim + vdim), { embedDim, kdim, vdim });
    super('MultiheadAttention', checked);
    this.#options = checked;
    this.setNeedWeights(true);
  }

  /**
   * Attends from each position of the query to those of the key. Runs on a thread of the addon's own.
   *
   * @param query `[B, T, embedDim]`, `[T, B, embedDim]` without `batchFirst`, or `[T, embedDim]`.
   * @param key The same with S for T and `kdim` features.
   * @param value As the key, with `vdim` features. Give the same tensor for all three for fast self-attention.
   * @param options Masks, flags, what weights are returned, and limits of the run.
   * @returns The output, and the weights where they are needed.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where shapes, types or masks don't fit, `ERR_MODEL_RUN`, `ERR_HOOK_FAILED`,
   *   `ERR_TIME_LIMIT`, `ERR_MEMORY_LIMIT`, `ERR_DISPOSED`; the signal's reason where it was aborted.
   *
   * @example
   * const { output, weights: byHead } = await attention.forward(src, src, src, { averageAttnWeights: false });
   */
  forward(query: Tensor, key: Tensor, value: Tensor, options?: AttentionForwardOptions): Promise<AttentionOutput> {
    return this.run([query, key, value], options);
  }

  /**
   * The same on the calling thread, which it blocks, as `ScriptModule.forwardSync`.
   *
   * @param query As of `forward`.
   * @param key As of `forward`.
   * @param value As of `forward`.
   * @param options As of `forward`. A `signal` counts if it is aborted before, or by a hook.
   * @returns The output, and the weights where they are needed.
   * @throws TorchError as `forward`; `ERR_MODEL_RUN` while parameters are moved or loaded, and in a hook that a run of the
   *   module waits for; `ERR_HOOK_FAILED` where a hook returns a promise. Throws the signal's reason where it was aborted.
   *
   * @example
   * const { output } = attention.forwardSync(src, src, src);
   */
  forwardSync(query: Tensor, key: Tensor, value: Tensor, options?: AttentionForwardOptions): AttentionOutput {
    return this.runSync([query, key, value], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    const { embedDim, kdim, vdim, batchFirst, numHeads } = this.#options;
    const query = sequence(inputs[0], 'query', embedDim, batchFirst);
    const key = sequence(inputs[1], 'key', kdim, batchFirst);
    const value = sequence(inputs[2], 'value', vdim, batchFirst);
    sameBatch(query, 'query', key, 'key');
    sameBatch(key, 'key', value, 'value');
    if (key.length !== value.length) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected as many positions as the key has (${key.length}) for value but received ${value.length}`,
      );
    }
    return {
      ...attentionArguments(given, ATTENTION, query, key, numHeads),
      needWeights: optionalBoolean(given.needWeights, 'needWeights'),
      averageAttnWeights: optionalBoolean(given.averageAttnWeights, 'averageAttnWeights'),
    };
  }

  /** @internal */
  protected override convert(raw: unknown): AttentionOutput {
    const [output, weights] = fromNativeValue(raw) as [Tensor, Tensor | null];
    return weights ? { output, weights } : { output };
  }
}
