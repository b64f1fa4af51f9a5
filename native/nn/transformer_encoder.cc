#include "nn/transformer_encoder.h"

#include <ATen/ATen.h>

#include "nn/module_call.h"

namespace lta::nn {

TransformerEncoder::TransformerEncoder(const TransformerEncoderLayer& layer, int64_t numLayers,
                                       std::shared_ptr<LayerNorm> norm, bool enableNestedTensor)
    : LayerStack("TransformerEncoder", layer, numLayers, std::move(norm)), enableNestedTensor_(enableNestedTensor) {}

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
  arguments.isCausal = isCausal(named, "isCausal", "srcMask", src);
  auto output = src;
  at::Tensor padding;
  const bool ragged = mayNest(src, arguments);
  if (ragged) padding = arguments.srcKeyPaddingMask.hidden();
  // Of nothing but padding nothing would be left.
  const bool nested = ragged && !forwardIsHooked() && !padding.all().item<bool>();
  if (nested) {
    output = at::_nested_tensor_from_mask(output, padding.logical_not(), /*mask_check=*/false);
    arguments.srcKeyPaddingMask = {};
  }
  output = callLayers(output, arguments);
  if (nested) {
    output = output.to_padded_tensor(0.0, src.sizes());
  } else if (ragged) {
    // Hooks get to see tensors with their padding, which they can read; what comes out is as without hooks.
    output = output.masked_fill(padding.unsqueeze(-1), 0);
  }
  return normalized(output);
}

// Whether the layers can work on the sequences without their padding: one that they would fuse anyway, behind each
// sequence only, and nothing else hidden.
bool TransformerEncoder::mayNest(const at::Tensor& src, const EncoderArguments& arguments) const {
  const auto& attention = first().attention();
  return enableNestedTensor_ && src.numel() > 0 && arguments.srcKeyPaddingMask.defined() &&
         !arguments.srcMask.defined() && !settings().normFirst && !trains(first()) && attention.fusable(src) &&
         !first().tracksGradients(src) && arguments.srcKeyPaddingMask.onlyHides() &&
         at::_nested_tensor_from_mask_left_aligned(src, arguments.srcKeyPaddingMask.hidden().logical_not());
}

}  // namespace lta::nn
