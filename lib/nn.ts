/** Transformer modules of libtorch, as PyTorch's `torch.nn` has them. */
export {
  type DecoderArguments,
  type DecoderForwardOptions,
  TransformerDecoder,
  TransformerDecoderLayer,
} from './nn/decoder';
export {
  type EncoderArguments,
  type EncoderForwardOptions,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerEncoderOptions,
} from './nn/encoder';
export { LayerNorm, type LayerNormOptions } from './nn/layer-norm';
export { NnModule as Module, type RunOptions } from './nn/module';
export {
  type AttentionArguments,
  type AttentionForwardOptions,
  type AttentionOutput,
  MultiheadAttention,
  type MultiheadAttentionOptions,
} from './nn/multihead-attention';
export type { TransformerLayerOptions } from './nn/options';
export {
  Transformer,
  type TransformerArguments,
  type TransformerForwardOptions,
  type TransformerOptions,
} from './nn/transformer';
export { TransformerModel, type TransformerModelOptions } from './nn/transformer-model';
