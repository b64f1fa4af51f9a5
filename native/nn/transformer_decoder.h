// nn.TransformerDecoder as in Python.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/layer_stack.h"
#include "nn/transformer_decoder_layer.h"

namespace lta::nn {

class TransformerDecoder final : public LayerStack<TransformerDecoderLayer> {
 public:
  TransformerDecoder(const TransformerDecoderLayer& layer, int64_t numLayers, std::shared_ptr<LayerNorm> norm);

  at::Tensor forward(const at::Tensor& tgt, const at::Tensor& memory, const NamedArguments& named);
  at::Tensor call(const std::string& name, const at::Tensor& tgt, const at::Tensor& memory,
                  const NamedArguments& named);

  // Inputs: tgt, memory. Arguments as for the layer; without tgtIsCausal, it is detected from the mask.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
};

}  // namespace lta::nn
