#include "capture/fused_layers.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "capture/flow/rules.h"
#include "fused/operators.h"
#include "torch/dispatcher.h"
#include "torch/own_computation.h"

namespace lta {
namespace {

using fused::OptionalTensor;

Capture* (*currentCapture)() = nullptr;

const char* nameOf(Activation activation) {
  switch (activation) {
    case Activation::Gelu:
    case Activation::GeluTanh:
      return "gelu";
    case Activation::Silu:
      return "silu";
    case Activation::Relu:
      return "relu";
    case Activation::None:
      break;
  }
  return nullptr;
}

// Tells of an operator that wrote its result over its first argument.
void tellInPlace(Capture& capture, const char* name, const char* overload, std::vector<c10::IValue> arguments) {
  if (!capture.concerns(arguments)) return;
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow((std::string("aten::") + name).c_str(), overload);
  const auto result = arguments[0].toTensor();
  capture.onOperator({*flow::ruleFor(name), name, op.schema(), arguments}, result);
}

// Tells of each operator that a layer stands for, as if all but the first had worked in place.
void tell(Capture& capture, const fused::LinearCall& call, const at::Tensor& output) {
  const auto& weight = call.weight.weight;
  capture.productRan(*flow::ruleFor("linear"), "linear", call.input, weight, output, /*consumed=*/false);
  if (const char* const activation = nameOf(call.activation)) tellInPlace(capture, activation, "", {output});
  if (call.residual) {
    tellInPlace(capture, "add", "Tensor", {output, *call.residual, 1});
    // No input changes a sum of two that none changes.
    auto& fixed = capture.fixedTensors();
    if (!fixed.contains(*call.residual)) fixed.remove(output);
  }
  if (!call.norm.epsilon) return;
  tellInPlace(
      capture, "layer_norm", "",
      {output, c10::List<int64_t>({weight.size(0)}), call.norm.weight, call.norm.bias, *call.norm.epsilon, true});
}

// Whether a layer works on scores or weights: then it runs as single operators, each of which is followed.
bool isFollowed(Capture& capture, const fused::LinearCall& call) {
  return capture.follows(call.input) || (call.residual && capture.follows(*call.residual));
}

at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& bias,
                  const at::Tensor& packed, int64_t version, int64_t activation, const OptionalTensor& residual,
                  const OptionalTensor& normWeight, const OptionalTensor& normBias, std::optional<double> epsilon) {
  const fused::LinearCall call{input,
                               {weight, bias, packed, version},
                               static_cast<Activation>(activation),
                               residual,
                               {normWeight, normBias, epsilon}};
  auto* const capture = currentCapture();
  if (capture && isFollowed(*capture, call)) return fused::unfusedLinear(call);
  const ProbeSuspended suspended;
  auto output = fused::linear(call);
  if (capture) tell(*capture, call, output);
  return output;
}

at::Tensor feedForward(const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& bias,
                       const at::Tensor& packed, int64_t version, int64_t activation, const at::Tensor& secondWeight,
                       const OptionalTensor& secondBias, const at::Tensor& secondPacked, int64_t secondVersion,
                       const OptionalTensor& residual, const OptionalTensor& normWeight, const OptionalTensor& normBias,
                       std::optional<double> epsilon) {
  const fused::LinearCall first{
      input, {weight, bias, packed, version}, static_cast<Activation>(activation), std::nullopt, {}};
  fused::LinearCall second{at::Tensor(),
                           {secondWeight, secondBias, secondPacked, secondVersion},
                           Activation::None,
                           residual,
                           {normWeight, normBias, epsilon}};
  auto* const capture = currentCapture();
  const bool apart = capture && (isFollowed(*capture, first) || (residual && capture->follows(*residual)));
  if (apart) {
    second.input = fused::linear(first);
    return fused::linear(second);
  }
  const ProbeSuspended suspended;
  auto output = fused::feedForward(first, second);
  if (!capture || input.dim() == 0) return output;
  // What lies between them is in no memory; nothing is read of this.
  auto sizes = input.sizes().vec();
  sizes.back() = weight.size(0);
  second.input = at::empty(sizes, output.options());
  tell(*capture, first, second.input);
  tell(*capture, second, output);
  return output;
}

at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const OptionalTensor& mask, double dropout, bool causal, std::optional<double> scale,
                     bool groupedQuery) {
  const SdpaArguments call{query, key, mask, causal, scale, groupedQuery};
  auto* const capture = currentCapture();
  // Libtorch's own is seen where it is called.
  if (!capture || !fused::attends(call, value, dropout)) {
    return at::scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale, groupedQuery);
  }
  const ProbeSuspended suspended;
  return capture->onFusedKernel(
      "scaled_dot_product_attention", capture->modules().current(), call, value, dropout,
      [&] { return fused::attention(call, value, dropout); }, Capture::FusedKernel::Attends);
}

}  // namespace

void registerFusedLayers(Capture* (*current)()) {
  currentCapture = current;
  auto& library = kernelsUnder(kProbeKey, "lta");
  library.impl("linear", linear);
  library.impl("feed_forward", feedForward);
  library.impl("attention", attention);
}

}  // namespace lta
