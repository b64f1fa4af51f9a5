#include "nn/transformer_encoder.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/container/modulelist.h>

#include "nn/module_call.h"

namespace lta::nn {

TransformerEncoder::TransformerEncoder(const TransformerEncoderLayer& layer, int64_t numLayers,
                                       std::shared_ptr<LayerNorm> norm, bool enableNestedTensor)
    : torch::nn::Module("TransformerEncoder"), enableNestedTensor_(enableNestedTensor) {
  auto list = register_module("layers", torch::nn::ModuleList());
  for (int64_t i = 0; i < numLayers; ++i) {
    layers_.push_back(std::dynamic_pointer_cast<TransformerEncoderLayer>(layer.clone()));
    list->push_back(layers_.back());
    names_.push_back("layers." + std::to_string(i));
  }
  if (norm)
    norm_ = torch::nn::LayerNorm(register_module("norm", std::shared_ptr<torch::nn::LayerNormImpl>(std::move(norm))));
}

void TransformerEncoder::setNeedWeights(bool need) {
  for (const auto& layer : layers_) layer->setNeedWeights(need);
}

c10::IValue TransformerEncoder::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  return call("", inputs.at(0), named);
}

at::Tensor TransformerEncoder::call(const std::string& name, const at::Tensor& src, const NamedArguments& named) {
  return callModule(name, *this, {src},
                    [&](const std::vector<c10::IValue>& inputs) -> c10::IValue {
                      return forward(inputs.at(0).toTensor(), named);
                    })
      .toTensor();
}

at::Tensor TransformerEncoder::forward(const at::Tensor& src, const NamedArguments& named) {
  auto arguments = encoderArguments(named, src.scalar_type());
  if (const auto mask = named.tensor("srcMask"); mask.defined() && !named.flag("isCausal")) {
    const auto length = src.dim() == 3 && settings().batchFirst ? src.size(1) : src.size(0);
    arguments.isCausal = isCausalMask(mask, length);
  }
  auto output = src;
  at::Tensor padding;
  const bool ragged = mayNest(src, arguments);
  const bool nested = ragged && !forwardIsHooked();
  if (ragged) padding = arguments.srcKeyPaddingMask.hidden();
  if (nested) {
    output = at::_nested_tensor_from_mask(output, padding.logical_not(), /*mask_check=*/false);
    arguments.srcKeyPaddingMask = {};
  }
  for (size_t i = 0; i < layers_.size(); ++i) output = layers_[i]->call(names_[i], output, arguments);
  if (nested) {
    output = output.to_padded_tensor(0.0, src.sizes());
  } else if (ragged) {
    // Hooks get to see tensors with their padding, which they can read; what comes out is as without hooks.
    output = output.masked_fill(padding.unsqueeze(-1), 0);
  }
  return norm_ ? nn::call("norm", norm_, output) : output;
}

// Whether the layers can work on the sequences without their padding: one that they would fuse anyway, behind each
// sequence only, and nothing else hidden.
bool TransformerEncoder::mayNest(const at::Tensor& src, const EncoderArguments& arguments) const {
  auto& attention = layers_.front()->attention();
  return enableNestedTensor_ && arguments.srcKeyPaddingMask.defined() && !arguments.srcMask.defined() &&
         !settings().normFirst && !layers_.front()->is_training() && attention.fusable(src) &&
         !layers_.front()->tracksGradients(src) && arguments.srcKeyPaddingMask.onlyHides() &&
         at::_nested_tensor_from_mask_left_aligned(src, arguments.srcKeyPaddingMask.hidden().logical_not());
}

}  // namespace lta::nn
