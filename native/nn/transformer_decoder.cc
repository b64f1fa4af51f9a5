#include "nn/transformer_decoder.h"

#include <torch/nn/modules/container/modulelist.h>

#include "nn/module_call.h"

namespace lta::nn {

TransformerDecoder::TransformerDecoder(const TransformerDecoderLayer& layer, int64_t numLayers,
                                       std::shared_ptr<LayerNorm> norm)
    : torch::nn::Module("TransformerDecoder") {
  auto list = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < numLayers; ++i) {
    layers_.push_back(std::dynamic_pointer_cast<TransformerDecoderLayer>(layer.clone()));
    list->push_back(layers_.back());
    names_.push_back("layers." + std::to_string(i));
  }
  if (norm)
    norm_ = torch::nn::LayerNorm(register_module("norm", std::shared_ptr<torch::nn::LayerNormImpl>(std::move(norm))));
}

void TransformerDecoder::setNeedWeights(bool need) {
  for (const auto& layer : layers_) layer->setNeedWeights(need);
}

c10::IValue TransformerDecoder::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  return call("", inputs.at(0), inputs.at(1), named);
}

at::Tensor TransformerDecoder::call(const std::string& name, const at::Tensor& tgt, const at::Tensor& memory,
                                    const NamedArguments& named) {
  return callModule(name, *this, {tgt, memory},
                    [&](const std::vector<c10::IValue>& inputs) -> c10::IValue {
                      return forward(inputs.at(0).toTensor(), inputs.at(1).toTensor(), named);
                    })
      .toTensor();
}

at::Tensor TransformerDecoder::forward(const at::Tensor& tgt, const at::Tensor& memory, const NamedArguments& named) {
  auto arguments = decoderArguments(named, tgt.scalar_type());
  if (const auto mask = named.tensor("tgtMask"); mask.defined() && !named.flag("tgtIsCausal")) {
    const auto length = tgt.dim() == 3 && settings().batchFirst ? tgt.size(1) : tgt.size(0);
    arguments.tgtIsCausal = isCausalMask(mask, length);
  }
  auto output = tgt;
  for (size_t i = 0; i < layers_.size(); ++i) output = layers_[i]->call(names_[i], output, memory, arguments);
  return norm_ ? nn::call("norm", norm_, output) : output;
}

}  // namespace lta::nn
