import type { Tensor } from '../core/tensor';
import { options as checkOptions, integer, invalid, optionalBoolean } from '../core/validate';
import type { RunOptions } from '../model/run-options';
import { sequence } from './arguments';
import { checkPart, type Named, NnModule } from './module';
import { type CheckedLayerOptions, checkMemory, epsilon } from './options';

/**
 * Options of `nn.LayerNorm`.
 *
 * @example
 * const options: nn.LayerNormOptions = { eps: 1e-6 };
 */
export interface LayerNormOptions {
  /** Added to the variance, from 0 to below 1. Default 1e-5. */
  eps?: number;
  /** Whether there is a bias. Default true. */
  bias?: boolean;
}

/**
 * Normalization over the last dimension, of `size` features; the `norm` of encoders and decoders.
 *
 * @example
 * const norm = new nn.LayerNorm(512, { eps: 1e-6 });
 */
export class LayerNorm extends NnModule<Tensor, object, Tensor> {
  /** @internal */
  protected override readonly callOptions = [];
  /** @internal */
  protected override readonly inputNames = ['x'];
  /**
   * Features of the last dimension.
   *
   * @example
   * console.log(new nn.LayerNorm(512).size); // 512
   */
  readonly size: number;

  /**
   * Makes a normalization of weight 1 and bias 0.
   *
   * @param size Features of the last dimension, at least 1.
   * @param options `eps` and `bias`.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for a size below 1 or beyond the memory of the machine, and options out
   *   of range.
   */
  constructor(size: number, options?: LayerNormOptions) {
    const { eps, bias } = checkOptions(options, ['eps', 'bias'], 'the options of LayerNorm');
    const checked = {
      size: integer(size, 'size', 1),
      eps: epsilon(eps, 'eps'),
      bias: optionalBoolean(bias, 'bias') ?? true,
    };
    checkMemory(2 * size, { size });
    super('LayerNorm', checked);
    this.size = size;
  }

  /**
   * Normalizes, on a thread of the addon's own.
   *
   * @param x `[…, size]`, with two or three dimensions.
   * @param options Whether gradients are recorded, and limits of the run.
   * @returns Of the same shape.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for another shape or type, `ERR_MODEL_RUN`, `ERR_HOOK_FAILED`, `ERR_TIME_LIMIT`,
   *   `ERR_MEMORY_LIMIT`, `ERR_DISPOSED`; the signal's reason where it was aborted.
   *
   * @example
   * const normed = await new nn.LayerNorm(4).forward(Tensor.from([[1, 2, 3, 4]]));
   */
  forward(x: Tensor, options?: RunOptions): Promise<Tensor> {
    return this.run([x], options);
  }

  /**
   * The same on the calling thread, which it blocks, as `ScriptModule.forwardSync`.
   *
   * @param x As of `forward`.
   * @param options As of `forward`. A `signal` counts if it is aborted before, or by a hook.
   * @returns Of the same shape.
   * @throws TorchError as `forward`; `ERR_MODEL_RUN` while parameters are moved or loaded, and in a hook that a run of the
   *   module waits for; `ERR_HOOK_FAILED` where a hook returns a promise. Throws the signal's reason where it was aborted.
   *
   * @example
   * const normed = new nn.LayerNorm(4).forwardSync(Tensor.from([[1, 2, 3, 4]]));
   */
  forwardSync(x: Tensor, options?: RunOptions): Tensor {
    return this.runSync([x], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[]): Named {
    sequence(inputs[0], 'x', this.size, true);
    return {};
  }
}

/** Checks the normalization after a stack. */
export function checkNorm(norm: LayerNorm | null | undefined, { dModel }: CheckedLayerOptions): LayerNorm | undefined {
  if (norm === undefined || norm === null) return undefined;
  checkPart(norm, LayerNorm, 'norm');
  if (norm.size !== dModel) throw invalid(`a LayerNorm of ${dModel} features`, 'norm', norm.size);
  return norm;
}
