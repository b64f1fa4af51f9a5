#include "nn/transformer_model.h"

#include "nn/module_call.h"

namespace lta::nn {
namespace {

std::shared_ptr<torch::nn::LinearImpl> makeLinear(int64_t in, int64_t out, bool bias) {
  std::shared_ptr<torch::nn::LinearImpl> made;
  {
    const SkipInit skipping;
    made = linear(in, out, bias);
  }
  made->reset_parameters();
  return made;
}

}  // namespace

TransformerModel::TransformerModel(const TransformerModelOptions& options) : torch::nn::Module("TransformerModel") {
  const auto& layer = options.layer;
  inputProjection_ =
      torch::nn::Linear(register_module("input_projection", makeLinear(options.dInput, layer.dModel, layer.bias)));
  encoder_ = register_module("transformer_encoder", std::make_shared<TransformerEncoder>(
                                                        *make<TransformerEncoderLayer>(layer), options.nlayers, nullptr,
                                                        /*enableNestedTensor=*/true));
  outputProjection_ =
      torch::nn::Linear(register_module("output_projection", makeLinear(layer.dModel, options.dOutput, layer.bias)));
}

c10::IValue TransformerModel::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  return callModule("", *this, {inputs.at(0)}, [&](const std::vector<c10::IValue>& given) -> c10::IValue {
    const auto projected = nn::call("input_projection", inputProjection_, given.at(0).toTensor());
    return nn::call("output_projection", outputProjection_, encoder_->call("transformer_encoder", projected, named));
  });
}

}  // namespace lta::nn
