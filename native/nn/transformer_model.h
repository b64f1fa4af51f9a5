// TransformerModel of the package: an encoder between two linear layers.
#pragma once

#include "nn/transformer_encoder.h"

namespace lta::nn {

struct TransformerModelOptions {
  int64_t dInput;
  int64_t dOutput;
  TransformerLayerOptions layer;
  int64_t nlayers = 12;
};

// Submodules: input_projection, transformer_encoder, output_projection.
class TransformerModel final : public torch::nn::Module, public NativeModule {
 public:
  explicit TransformerModel(const TransformerModelOptions& options);

  // Inputs: src. Arguments: srcMask, srcKeyPaddingMask, isCausal.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  void setNeedWeights(bool need) override { encoder_->setNeedWeights(need); }
  bool needsWeights() const override { return encoder_->needsWeights(); }

 private:
  torch::nn::Linear inputProjection_{nullptr};
  std::shared_ptr<TransformerEncoder> encoder_;
  torch::nn::Linear outputProjection_{nullptr};
};

}  // namespace lta::nn
