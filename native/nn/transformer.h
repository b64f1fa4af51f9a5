// nn.Transformer as in Python.
#pragma once

#include "nn/transformer_decoder.h"
#include "nn/transformer_encoder.h"

namespace lta::nn {

struct TransformerOptions {
  TransformerLayerOptions layer;
  int64_t numEncoderLayers = 6;
  int64_t numDecoderLayers = 6;
  std::shared_ptr<TransformerEncoder> customEncoder;  // null: built from the other options
  std::shared_ptr<TransformerDecoder> customDecoder;
};

// An encoder and a decoder. Reinitialises all matrices, also those of custom ones, as in Python.
class Transformer final : public torch::nn::Module, public NativeModule {
 public:
  explicit Transformer(const TransformerOptions& options);

  // Inputs: src, tgt. Arguments: srcMask, tgtMask, memoryMask, srcKeyPaddingMask, tgtKeyPaddingMask,
  // memoryKeyPaddingMask, srcIsCausal, tgtIsCausal, memoryIsCausal.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  void setNeedWeights(bool need) override;
  bool needsWeights() const override { return encoder_->needsWeights() && decoder_->needsWeights(); }

 private:
  std::shared_ptr<TransformerEncoder> encoder_;
  std::shared_ptr<TransformerDecoder> decoder_;
};

}  // namespace lta::nn
