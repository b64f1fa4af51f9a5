#include "nn/transformer.h"

#include <torch/nn/init.h>

#include "nn/module_call.h"

namespace lta::nn {
Transformer::Transformer(const TransformerOptions& options)
    : torch::nn::Module("Transformer"), encoder_(options.customEncoder), decoder_(options.customDecoder) {
  const auto norm = [&] {
    return std::make_shared<LayerNorm>(
        LayerNormOptions{options.layer.dModel, options.layer.layerNormEps, options.layer.bias});
  };
  if (!encoder_) {
    encoder_ = std::make_shared<TransformerEncoder>(*make<TransformerEncoderLayer>(options.layer),
                                                    options.numEncoderLayers, norm(), /*enableNestedTensor=*/true);
  }
  if (!decoder_) {
    decoder_ = std::make_shared<TransformerDecoder>(*make<TransformerDecoderLayer>(options.layer),
                                                    options.numDecoderLayers, norm());
  }
  register_module("encoder", encoder_);
  register_module("decoder", decoder_);
  for (const auto& parameter : parameters()) {
    if (parameter.dim() > 1) torch::nn::init::xavier_uniform_(parameter);
  }
}

void Transformer::setNeedWeights(bool need) {
  encoder_->setNeedWeights(need);
  decoder_->setNeedWeights(need);
}

c10::IValue Transformer::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  return callModule("", *this, {inputs.at(0), inputs.at(1)}, [&](const std::vector<c10::IValue>& given) -> c10::IValue {
    NamedArguments encoding = named;
    if (const auto causal = named.flag("srcIsCausal")) encoding.flags["isCausal"] = *causal;
    const auto memory = encoder_->call("encoder", given.at(0).toTensor(), encoding);
    return decoder_->call("decoder", given.at(1).toTensor(), memory, named);
  });
}

}  // namespace lta::nn
