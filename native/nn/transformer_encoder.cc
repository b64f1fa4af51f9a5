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
  // A batch of padding alone can't be nested.
  const bool nested = ragged && !forwardIsHooked() && !padding.all().item<bool>();
  if (nested) {
    output = at::_nested_tensor_from_mask(output, padding.logical_not(), /*mask_check=*/false);
    arguments.srcKeyPaddingMask = {};
  }
  output = callLayers(output, arguments);
  if (nested) {
    output = output.to_padded_tensor(0.0, src.sizes());
  } else if (ragged) {
    // With hooks, layers see padded tensors, which hooks can read; the output is the same as without.
    output = output.masked_fill(padding.unsqueeze(-1), 0);
  }
  return normalized(output);
}

// Whether sequences may be nested, without their padding: layers would take the fused path, and the mask hides padding
// at the end of sequences only.
bool TransformerEncoder::mayNest(const at::Tensor& src, const EncoderArguments& arguments) const {
  const auto& attention = first().attention();
  return enableNestedTensor_ && src.numel() > 0 && arguments.srcKeyPaddingMask.defined() &&
         !arguments.srcMask.defined() && !settings().normFirst && !trains(first()) && attention.fusable(src) &&
         !first().tracksGradients(src) && arguments.srcKeyPaddingMask.onlyHides() &&
         at::_nested_tensor_from_mask_left_aligned(src, arguments.srcKeyPaddingMask.hidden().logical_not());
}

}  // namespace lta::nn
