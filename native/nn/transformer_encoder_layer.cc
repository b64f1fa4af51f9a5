#include "nn/transformer_encoder_layer.h"

#include <ATen/ATen.h>

#include "nn/blocks.h"
#include "nn/leaves.h"
#include "nn/module_call.h"

namespace lta::nn {
namespace {

torch::nn::TransformerEncoderLayerOptions libtorchOptions(const TransformerLayerOptions& options) {
  torch::nn::TransformerEncoderLayerOptions converted(options.dModel, options.nhead);
  converted.dim_feedforward(options.dimFeedforward).dropout(options.dropout);
  if (options.activation == Activation::Gelu) converted.activation(torch::kGELU);
  return converted;
}

}  // namespace

// libtorch's constructor gets sizes of one, as its submodules are replaced.
TransformerEncoderLayer::TransformerEncoderLayer(const TransformerLayerOptions& options)
    : torch::nn::TransformerEncoderLayerImpl(
          torch::nn::TransformerEncoderLayerOptions(1, 1).dim_feedforward(1).dropout(options.dropout)),
      settings_(options) {
  this->options = libtorchOptions(options);
  const auto size = options.dModel, hidden = options.dimFeedforward;
  attention_ = replace_module("self_attn", std::make_shared<MultiheadAttention>(MultiheadAttentionOptions{
                                               size, options.nhead, options.dropout, options.bias, false, false, size,
                                               size, options.batchFirst}));
  self_attn = torch::nn::MultiheadAttention(std::shared_ptr<torch::nn::MultiheadAttentionImpl>(attention_));
  linear1 = torch::nn::Linear(replace_module("linear1", linear(size, hidden, options.bias)));
  linear2 = torch::nn::Linear(replace_module("linear2", linear(hidden, size, options.bias)));
  const LayerNormOptions norm{size, options.layerNormEps, options.bias};
  norm1 = torch::nn::LayerNorm(replace_module("norm1", layerNorm(norm)));
  norm2 = torch::nn::LayerNorm(replace_module("norm2", layerNorm(norm)));
}

void TransformerEncoderLayer::initialise() {
  attention_->initialise();
  linear1->reset_parameters();
  linear2->reset_parameters();
}

std::shared_ptr<torch::nn::Module> TransformerEncoderLayer::clone(const std::optional<c10::Device>&) const {
  auto copy = copyOf(*this, settings_);
  copy->setNeedWeights(attention_->needsWeights());
  return copy;
}

EncoderArguments encoderArguments(const NamedArguments& named, at::ScalarType type) {
  return {Mask(named.tensor("srcMask"), type), Mask(named.tensor("srcKeyPaddingMask"), type),
          named.flag("isCausal").value_or(false)};
}

c10::IValue TransformerEncoderLayer::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  return call("", inputs.at(0), encoderArguments(named, inputs.at(0).scalar_type()));
}

at::Tensor TransformerEncoderLayer::call(const std::string& name, const at::Tensor& src,
                                         const EncoderArguments& arguments) {
  return callModule(name, *this, {src},
                    [&](const std::vector<c10::IValue>& inputs) -> c10::IValue {
                      return forward(inputs.at(0).toTensor(), arguments);
                    })
      .toTensor();
}

at::Tensor TransformerEncoderLayer::forward(const at::Tensor& src, const EncoderArguments& arguments) {
  if (mayFuse(src, arguments)) return fused(src, arguments);
  // The unfused path takes additive masks.
  const EncoderArguments added{arguments.srcMask.asAdded(), arguments.srcKeyPaddingMask.asAdded(), arguments.isCausal};
  const auto x = residual(src, settings_.normFirst, "norm1", norm1,
                          [&](const at::Tensor& given) { return selfAttentionBlock(given, added); });
  return residual(x, settings_.normFirst, "norm2", norm2,
                  [&](const at::Tensor& given) { return feedForwardBlock(given); });
}

at::Tensor TransformerEncoderLayer::selfAttentionBlock(const at::Tensor& x, const EncoderArguments& arguments) {
  return attend({"self_attn", *attention_, "dropout1", dropout1}, x, x,
                {arguments.srcKeyPaddingMask, arguments.srcMask, arguments.isCausal});
}

at::Tensor TransformerEncoderLayer::feedForwardBlock(const at::Tensor& x) {
  return feedForward({linear1, dropout, linear2, "dropout2", dropout2}, settings_.activation, x);
}

bool TransformerEncoderLayer::tracksGradients(const at::Tensor& src) const {
  if (!at::GradMode::is_enabled()) return false;
  if (attention_->tracksGradients(src)) return true;
  for (const auto* tensor : {&norm1->weight, &norm1->bias, &norm2->weight, &norm2->bias, &linear1->weight,
                             &linear1->bias, &linear2->weight, &linear2->bias}) {
    if (tensor->requires_grad()) return true;
  }
  return false;
}

bool TransformerEncoderLayer::mayFuse(const at::Tensor& src, const EncoderArguments& arguments) const {
  const auto onlyHides = [](const Mask& mask) { return !mask.defined() || mask.onlyHides(); };
  return !trains(*this) && attention_->fusable(src) && !tracksGradients(src) && !forwardIsHooked() &&
         onlyHides(arguments.srcMask) && onlyHides(arguments.srcKeyPaddingMask);
}

at::Tensor TransformerEncoderLayer::fused(const at::Tensor& src, const EncoderArguments& arguments) {
  const auto [mask, type] = attention_->mergeMasks(arguments.srcMask, arguments.srcKeyPaddingMask, src);
  return at::_transformer_encoder_layer_fwd(
      src, settings_.dModel, settings_.nhead, attention_->in_proj_weight, attention_->in_proj_bias,
      attention_->out_proj->weight, attention_->out_proj->bias, settings_.activation == Activation::Gelu,
      settings_.normFirst, settings_.layerNormEps, norm1->weight, norm1->bias, norm2->weight, norm2->bias,
      linear1->weight, linear1->bias, linear2->weight, linear2->bias, mask, type);
}

}  // namespace lta::nn
