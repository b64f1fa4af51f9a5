import { options as checkOptions, integer } from '../core/validate';
import { EncoderModule } from './encoder';
import { checkLayers, checkMemory, LAYER_OPTIONS, layerOptions, type TransformerLayerOptions } from './options';

/**
 * Options of `nn.TransformerModel`.
 *
 * @example
 * const options: nn.TransformerModelOptions = { dInput: 80, dOutput: 10, dModel: 256, nhead: 4, nlayers: 2 };
 */
export interface TransformerModelOptions extends Omit<Partial<TransformerLayerOptions>, 'dimFeedforward'> {
  /** Features of the input, at least 1. */
  dInput: number;
  /** Features of the output, at least 1. */
  dOutput: number;
  /** Features inside, at least 1; the heads have to divide it. Default 2048. */
  dModel?: number;
  /** Heads of each attention, at least 1. Default 8. */
  nhead?: number;
  /** Features inside the feed-forward blocks, at least 1. Default 512. */
  dHid?: number;
  /** Layers of the encoder, at least 1. Default 12. */
  nlayers?: number;
}

const OPTIONS = ['dInput', 'dOutput', 'dHid', 'nlayers', ...LAYER_OPTIONS.filter((name) => name !== 'dimFeedforward')];

/**
 * An encoder stack between two linear projections. Its parameters are those of `input_projection` (dInput → dModel),
 * `transformer_encoder` (as `nn.TransformerEncoder`) and `output_projection` (dModel → dOutput).
 *
 * @example
 * const classifier = new nn.TransformerModel({ dInput: 80, dOutput: 10, dModel: 256, nhead: 4, nlayers: 2 }).eval();
 * const { output, attentionWeights } = await getOutputAndAttentionWeights(classifier, Tensor.zeros([7, 1, 80]));
 */
export class TransformerModel extends EncoderModule {
  /**
   * Makes a model with random weights, in training mode.
   *
   * @param options Sizes, and how the layers are made.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for options out of range, also for sizes beyond the memory of the
   *   machine.
   */
  constructor(options: TransformerModelOptions) {
    const given = checkOptions(options, OPTIONS, 'the options of TransformerModel');
    const { dInput, dOutput, dHid, nlayers, ...layer } = given;
    const sizes = {
      dInput: integer(dInput, 'dInput', 1),
      dOutput: integer(dOutput, 'dOutput', 1),
      nlayers: integer(nlayers ?? 12, 'nlayers', 1),
    };
    const dimFeedforward = integer(dHid ?? 512, 'dHid', 1);
    const checked = layerOptions({ ...layer, dModel: layer.dModel ?? 2048, nhead: layer.nhead ?? 8, dimFeedforward });
    checkMemory(checked.dModel * (dInput + dOutput), { dModel: checked.dModel, dInput, dOutput });
    checkLayers(checked, { encoder: sizes.nlayers }, { nlayers: sizes.nlayers });
    super('TransformerModel', checked, { ...sizes, features: dInput });
  }
}
