// nn.TransformerEncoder as in Python, with its nested-tensor path.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/layer_stack.h"
#include "nn/transformer_encoder_layer.h"

namespace lta::nn {

class TransformerEncoder final : public LayerStack<TransformerEncoderLayer> {
 public:
  TransformerEncoder(const TransformerEncoderLayer& layer, int64_t numLayers, std::shared_ptr<LayerNorm> norm,
                     bool enableNestedTensor);

  at::Tensor forward(const at::Tensor& src, const NamedArguments& named);
  at::Tensor call(const std::string& name, const at::Tensor& src, const NamedArguments& named);

  // Inputs: src. Arguments: srcMask, srcKeyPaddingMask, isCausal (absent: detected from the mask).
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;

 private:
  bool mayNest(const at::Tensor& src, const EncoderArguments& arguments) const;

  const bool enableNestedTensor_;
};

}  // namespace lta::nn
