#include "nn/transformer_decoder_layer.h"

#include <ATen/ATen.h>

#include "nn/blocks.h"
#include "nn/leaves.h"
#include "nn/module_call.h"

namespace lta::nn {

TransformerDecoderLayer::TransformerDecoderLayer(const TransformerLayerOptions& options)
    : torch::nn::Module("TransformerDecoderLayer"), settings_(options) {
  const auto size = options.dModel, hidden = options.dimFeedforward;
  const MultiheadAttentionOptions attention{size, options.nhead, options.dropout,   options.bias, false, false,
                                            size, size,          options.batchFirst};
  selfAttention_ = register_module("self_attn", std::make_shared<MultiheadAttention>(attention));
  crossAttention_ = register_module("multihead_attn", std::make_shared<MultiheadAttention>(attention));
  linear1_ = torch::nn::Linear(register_module("linear1", linear(size, hidden, options.bias)));
  dropout_ = register_module("dropout", torch::nn::Dropout(options.dropout));
  linear2_ = torch::nn::Linear(register_module("linear2", linear(hidden, size, options.bias)));
  const LayerNormOptions norm{size, options.layerNormEps, options.bias};
  norm1_ = torch::nn::LayerNorm(register_module("norm1", layerNorm(norm)));
  norm2_ = torch::nn::LayerNorm(register_module("norm2", layerNorm(norm)));
  norm3_ = torch::nn::LayerNorm(register_module("norm3", layerNorm(norm)));
  dropout1_ = register_module("dropout1", torch::nn::Dropout(options.dropout));
  dropout2_ = register_module("dropout2", torch::nn::Dropout(options.dropout));
  dropout3_ = register_module("dropout3", torch::nn::Dropout(options.dropout));
}

void TransformerDecoderLayer::initialise() {
  selfAttention_->initialise();
  crossAttention_->initialise();
  linear1_->reset_parameters();
  linear2_->reset_parameters();
}

void TransformerDecoderLayer::setNeedWeights(bool need) {
  selfAttention_->setNeedWeights(need);
  crossAttention_->setNeedWeights(need);
}

std::shared_ptr<torch::nn::Module> TransformerDecoderLayer::clone(const std::optional<c10::Device>&) const {
  auto copy = copyOf(*this, settings_);
  copy->setNeedWeights(selfAttention_->needsWeights());
  return copy;
}

DecoderArguments decoderArguments(const NamedArguments& named, at::ScalarType type) {
  return {Mask(named.tensor("tgtMask"), type),           Mask(named.tensor("memoryMask"), type),
          Mask(named.tensor("tgtKeyPaddingMask"), type), Mask(named.tensor("memoryKeyPaddingMask"), type),
          named.flag("tgtIsCausal").value_or(false),     named.flag("memoryIsCausal").value_or(false)};
}

c10::IValue TransformerDecoderLayer::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  return call("", inputs.at(0), inputs.at(1), decoderArguments(named, inputs.at(0).scalar_type()));
}

at::Tensor TransformerDecoderLayer::call(const std::string& name, const at::Tensor& tgt, const at::Tensor& memory,
                                         const DecoderArguments& arguments) {
  return callModule(name, *this, {tgt, memory},
                    [&](const std::vector<c10::IValue>& inputs) -> c10::IValue {
                      return forward(inputs.at(0).toTensor(), inputs.at(1).toTensor(), arguments);
                    })
      .toTensor();
}

at::Tensor TransformerDecoderLayer::forward(const at::Tensor& tgt, const at::Tensor& memory,
                                            const DecoderArguments& arguments) {
  auto x = residual(tgt, settings_.normFirst, "norm1", norm1_,
                    [&](const at::Tensor& given) { return selfAttentionBlock(given, arguments); });
  x = residual(x, settings_.normFirst, "norm2", norm2_,
               [&](const at::Tensor& given) { return crossAttentionBlock(given, memory, arguments); });
  return residual(x, settings_.normFirst, "norm3", norm3_,
                  [&](const at::Tensor& given) { return feedForwardBlock(given); });
}

at::Tensor TransformerDecoderLayer::selfAttentionBlock(const at::Tensor& x, const DecoderArguments& arguments) {
  return attend({"self_attn", *selfAttention_, "dropout1", dropout1_}, x, x,
                {arguments.tgtKeyPaddingMask, arguments.tgtMask, arguments.tgtIsCausal});
}

at::Tensor TransformerDecoderLayer::crossAttentionBlock(const at::Tensor& x, const at::Tensor& memory,
                                                        const DecoderArguments& arguments) {
  return attend({"multihead_attn", *crossAttention_, "dropout2", dropout2_}, x, memory,
                {arguments.memoryKeyPaddingMask, arguments.memoryMask, arguments.memoryIsCausal});
}

at::Tensor TransformerDecoderLayer::feedForwardBlock(const at::Tensor& x) {
  return feedForward({linear1_, dropout_, linear2_, "dropout3", dropout3_}, settings_.activation, x);
}

}  // namespace lta::nn
