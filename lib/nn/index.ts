// Transformer modules of libtorch, as PyTorch's `torch.nn` has them.
export {
  type DecoderArguments,
  type DecoderForwardOptions,
  TransformerDecoder,
  TransformerDecoderLayer,
} from './decoder';
export {
  type EncoderArguments,
  type EncoderForwardOptions,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerEncoderOptions,
} from './encoder';
export { LayerNorm, type LayerNormOptions } from './layer-norm';
export { NnModule as Module } from './module';
export {
  type AttentionArguments,
  type AttentionForwardOptions,
  type AttentionOutput,
  MultiheadAttention,
  type MultiheadAttentionOptions,
} from './multihead-attention';
export type { TransformerLayerOptions } from './options';
export {
  Transformer,
  type TransformerArguments,
  type TransformerForwardOptions,
  type TransformerOptions,
} from './transformer';
export { TransformerModel, type TransformerModelOptions } from './transformer-model';
