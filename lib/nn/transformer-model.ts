import type { Tensor } from '../tensor';
import { options as checkOptions, integer } from '../validate';
import { checkEncoderCall, ENCODER_ARGUMENTS, type EncoderForwardOptions } from './encoder';
import { type Named, NnModule } from './module';
import { type CheckedLayerOptions, layerOptions } from './options';

export interface TransformerModelOptions {
  /** Features of the input. */
  dInput: number;
  /** Features of the output. */
  dOutput: number;
  /** Features inside; the heads have to divide it. Default 2048. */
  dModel?: number;
  /** Heads of each attention. Default 8. */
  nhead?: number;
  /** Features inside the feed-forward blocks. Default 512. */
  dHid?: number;
  /** Layers of the encoder. Default 12. */
  nlayers?: number;
  /** Probability of dropout in training mode. Default 0.1. */
  dropout?: number;
  /** Default `'relu'`. */
  activation?: 'relu' | 'gelu';
  /** Added to the variance in normalizations. Default 1e-5. */
  layerNormEps?: number;
  /** Inputs are `[B, T, dInput]` instead of `[T, B, dInput]`. Default false. */
  batchFirst?: boolean;
  /** Normalizations come ahead of the blocks instead of behind them. Default false. */
  normFirst?: boolean;
  /** Whether linear layers and normalizations have biases. Default true. */
  bias?: boolean;
}

/**
 * An encoder stack between two linear projections. Its parameters are those of `input_projection` (dInput → dModel),
 * `transformer_encoder` (as `nn.TransformerEncoder`) and `output_projection` (dModel → dOutput).
 */
export class TransformerModel extends NnModule<Tensor> {
  /** @internal */
  protected override readonly namedArguments = ENCODER_ARGUMENTS;
  readonly #layer: CheckedLayerOptions;
  readonly #dInput: number;

  constructor(options: TransformerModelOptions) {
    const { dInput, dOutput, dHid, nlayers, dModel, nhead, ...rest } = checkOptions(
      options,
      [
        'dInput',
        'dOutput',
        'dModel',
        'nhead',
        'dHid',
        'nlayers',
        'dropout',
        'activation',
        'layerNormEps',
        'batchFirst',
        'normFirst',
        'bias',
      ],
      'the options of TransformerModel',
    );
    const checked = {
      dInput: integer(dInput, 'dInput', 1),
      dOutput: integer(dOutput, 'dOutput', 1),
      nlayers: integer(nlayers ?? 12, 'nlayers', 1),
    };
    const dimFeedforward = integer(dHid ?? 512, 'dHid', 1);
    const layer = layerOptions({ ...rest, dModel: dModel ?? 2048, nhead: nhead ?? 8, dimFeedforward });
    super('TransformerModel', { ...layer, ...checked });
    this.#layer = layer;
    this.#dInput = dInput;
  }

  /** `src`: `[B, T, dInput]`, `[T, B, dInput]` without `batchFirst`, or `[T, dInput]`; the output has `dOutput` features. */
  forward(src: Tensor, options?: EncoderForwardOptions): Promise<Tensor> {
    return this.run([src], options);
  }

  /** @internal */
  protected override check(inputs: readonly unknown[], given: Record<string, unknown>): Named {
    return checkEncoderCall(inputs, given, this.#dInput, this.#layer);
  }
}
