#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/leaves.h"
#include "nn/transformer_decoder_layer.h"

namespace lta::nn {

// A stack of layers, all copies of one, with or without a normalization behind them.
class TransformerDecoder final : public torch::nn::Module, public NativeModule {
 public:
  TransformerDecoder(const TransformerDecoderLayer& layer, int64_t numLayers, std::shared_ptr<LayerNorm> norm);

  at::Tensor forward(const at::Tensor& tgt, const at::Tensor& memory, const NamedArguments& named);
  at::Tensor call(const std::string& name, const at::Tensor& tgt, const at::Tensor& memory,
                  const NamedArguments& named);

  // [tgt, memory]; the names of the layer's, tgtIsCausal absent: looked for in the mask.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  void setNeedWeights(bool need) override;

  const TransformerLayerOptions& settings() const { return layers_.front()->settings(); }

 private:
  std::vector<std::shared_ptr<TransformerDecoderLayer>> layers_;
  std::vector<std::string> names_;
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace lta::nn
