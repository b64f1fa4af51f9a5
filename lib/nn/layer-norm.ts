import type { Tensor } from '../core/tensor';
import { options as checkOptions, integer, invalid, optionalBoolean } from '../core/validate';
import type { RunOptions } from '../model/run-options';
import { sequence } from './arguments';
import { checkPart, type Named, NnModule } from './module';
import { type CheckedLayerOptions, checkMemory, epsilon } from './options';

export interface LayerNormOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number;
  /** Whether there is a bias. Default true. */
  bias?: boolean;
}

/** Normalization over the last dimension, of `size` features; the `norm` of encoders and decoders. */
export class LayerNorm extends NnModule<Tensor, object, Tensor> {
  /** @internal */
  protected override readonly callOptions = [];
  /** @internal */
  protected override readonly inputNames = ['x'];
  readonly size: number;

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

  /** `x`: `[…, size]` with two or three dimensions. */
  forward(x: Tensor, options?: RunOptions): Promise<Tensor> {
    return this.run([x], options);
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
