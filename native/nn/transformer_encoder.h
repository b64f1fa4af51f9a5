#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/leaves.h"
#include "nn/transformer_encoder_layer.h"

namespace lta::nn {

// A stack of layers, all copies of one, with or without a normalization behind them.
class TransformerEncoder final : public torch::nn::Module, public NativeModule {
 public:
  TransformerEncoder(const TransformerEncoderLayer& layer, int64_t numLayers, std::shared_ptr<LayerNorm> norm,
                     bool enableNestedTensor);

  at::Tensor forward(const at::Tensor& src, const NamedArguments& named);
  at::Tensor call(const std::string& name, const at::Tensor& src, const NamedArguments& named);

  // [src]; srcMask, srcKeyPaddingMask, isCausal (absent: looked for in the mask).
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  void setNeedWeights(bool need) override;

  const TransformerLayerOptions& settings() const { return layers_.front()->settings(); }

 private:
  bool mayNest(const at::Tensor& src, const EncoderArguments& arguments) const;

  const bool enableNestedTensor_;
  std::vector<std::shared_ptr<TransformerEncoderLayer>> layers_;
  std::vector<std::string> names_;
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace lta::nn
