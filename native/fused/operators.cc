#include "fused/operators.h"

#include <ATen/ATen.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/autocast_mode.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "fused/layers.h"
#include "torch/dispatcher.h"

namespace lta::fused {
namespace {

bool isPlain(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.layout() == at::kStrided &&
         !tensor.is_nested() && !tensor.is_neg() && !tensor._is_zerotensor() && !at::isTensorSubclassLike(tensor);
}

bool isVector(const OptionalTensor& tensor, int64_t size) {
  return !tensor || (isPlain(*tensor) && tensor->dim() == 1 && tensor->size(0) == size && tensor->is_contiguous());
}

int64_t versionOf(const at::Tensor& weight) { return weight.is_inference() ? 0 : weight._version(); }

bool isUnchanged(const Weight& weight) {
  return weight.weight.is_cpu() && weight.weight.scalar_type() == at::kFloat &&
         versionOf(weight.weight) == weight.version;
}

bool recordsGrad(const at::Tensor& tensor) { return c10::GradMode::is_enabled() && tensor.requires_grad(); }

bool isForUs(const at::Tensor& input, const Weight& weight) {
  return isPlain(input) && input.dim() > 0 && input.size(-1) == weight.weight.size(1) && !recordsGrad(input) &&
         !recordsGrad(weight.weight) && isUnchanged(weight) && !at::autocast::is_autocast_enabled(at::kCPU);
}

at::Tensor activated(const at::Tensor& input, Activation activation) {
  switch (activation) {
    case Activation::Gelu:
      return at::gelu(input);
    case Activation::GeluTanh:
      return at::gelu(input, "tanh");
    case Activation::Silu:
      return at::silu(input);
    case Activation::Relu:
      return at::relu(input);
    case Activation::None:
      break;
  }
  return input;
}

at::Tensor ended(at::Tensor output, const OptionalTensor& residual, const NormOf& norm) {
  if (residual) output = at::add(output, *residual);
  if (norm.epsilon) output = at::layer_norm(output, {output.size(-1)}, norm.weight, norm.bias, *norm.epsilon);
  return output;
}

const float* dataOf(const OptionalTensor& tensor) { return tensor ? tensor->const_data_ptr<float>() : nullptr; }

Layer layerOf(const Weight& weight, Activation activation) {
  return {weight.packed.const_data_ptr<float>(), dataOf(weight.bias), weight.weight.size(1), weight.weight.size(0),
          activation};
}

// Applies layers by `apply(rows)`, and what follows them; a residual that isn't as the output is added afterwards.
template <typename Apply>
at::Tensor applied(const at::Tensor& given, int64_t columns, const OptionalTensor& residual, const NormOf& norm,
                   Apply apply) {
  const auto input = given.contiguous();
  auto sizes = input.sizes().vec();
  sizes.back() = columns;
  auto output = at::empty(sizes, input.options().requires_grad(false));
  const bool fits = !residual || (isPlain(*residual) && residual->sizes() == output.sizes() && !recordsGrad(*residual));
  const auto beside = residual && fits ? residual->contiguous() : at::Tensor();
  Norm normalized;
  Rows rows;
  rows.input = input.const_data_ptr<float>();
  rows.count = input.size(-1) == 0 ? 0 : input.numel() / input.size(-1);
  rows.output = output.mutable_data_ptr<float>();
  if (beside.defined()) rows.residual = beside.const_data_ptr<float>();
  if (fits && norm.epsilon) {
    normalized = {dataOf(norm.weight), dataOf(norm.bias), static_cast<float>(*norm.epsilon)};
    rows.norm = &normalized;
  }
  if (rows.count > 0) apply(rows);
  return fits ? output : ended(std::move(output), residual, norm);
}

at::Tensor linearKernel(const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& bias,
                        const at::Tensor& packed, int64_t version, int64_t activation, const OptionalTensor& residual,
                        const OptionalTensor& normWeight, const OptionalTensor& normBias,
                        std::optional<double> epsilon) {
  const LinearCall call{input,
                        {weight, bias, packed, version},
                        static_cast<Activation>(activation),
                        residual,
                        {normWeight, normBias, epsilon}};
  if (!isForUs(input, call.weight)) return unfusedLinear(call);
  const auto layer = layerOf(call.weight, call.activation);
  return applied(input, layer.columns, residual, call.norm, [&](const Rows& rows) { apply(layer, rows); });
}

at::Tensor feedForwardKernel(const at::Tensor& input, const at::Tensor& weight, const OptionalTensor& bias,
                             const at::Tensor& packed, int64_t version, int64_t activation,
                             const at::Tensor& secondWeight, const OptionalTensor& secondBias,
                             const at::Tensor& secondPacked, int64_t secondVersion, const OptionalTensor& residual,
                             const OptionalTensor& normWeight, const OptionalTensor& normBias,
                             std::optional<double> epsilon) {
  const Weight first{weight, bias, packed, version};
  const Weight second{secondWeight, secondBias, secondPacked, secondVersion};
  const auto how = static_cast<Activation>(activation);
  const NormOf norm{normWeight, normBias, epsilon};
  if (!isForUs(input, first) || !isUnchanged(second) || recordsGrad(secondWeight)) {
    const auto hidden = unfusedLinear({input, first, how, std::nullopt, {}});
    return unfusedLinear({hidden, second, Activation::None, residual, norm});
  }
  const auto layer = layerOf(first, how), next = layerOf(second, Activation::None);
  return applied(input, next.columns, residual, norm, [&](const Rows& rows) { apply(layer, next, rows); });
}

at::Tensor attentionKernel(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const OptionalTensor& mask, double dropout, bool causal, std::optional<double> scale,
                           bool groupedQuery) {
  const SdpaArguments call{query, key, mask, causal, scale, groupedQuery};
  if (!attends(call, value, dropout)) {
    return at::scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale, groupedQuery);
  }
  Wanted nothing;
  nothing.weights = false;
  at::Tensor output;
  attend(call, value, nothing, output);
  return output;
}

c10::OperatorHandle operatorOf(const char* name) { return c10::Dispatcher::singleton().findSchemaOrThrow(name, ""); }

}  // namespace

c10::OperatorHandle linearOperator() {
  static const auto handle = operatorOf("lta::linear");
  return handle;
}

c10::OperatorHandle feedForwardOperator() {
  static const auto handle = operatorOf("lta::feed_forward");
  return handle;
}

c10::OperatorHandle attentionOperator() {
  static const auto handle = operatorOf("lta::attention");
  return handle;
}

c10::OperatorHandle geluOperator() {
  static const auto handle = operatorOf("aten::gelu");
  return handle;
}

at::Tensor attention(const SdpaArguments& call, const at::Tensor& value, double dropout) {
  static const auto handle = attentionOperator().typed<decltype(attentionKernel)>();
  return handle.call(call.query, call.key, value, call.mask, dropout, call.causal, call.scale, call.groupedQuery);
}

bool attends(const SdpaArguments& call, const at::Tensor& value, double dropout) {
  return dropout == 0 && canAttend(call, value);
}

at::Tensor linear(const LinearCall& call) {
  static const auto handle = linearOperator().typed<decltype(linearKernel)>();
  const auto& [weight, bias, packed, version] = call.weight;
  return handle.call(call.input, weight, bias, packed, version, static_cast<int64_t>(call.activation), call.residual,
                     call.norm.weight, call.norm.bias, call.norm.epsilon);
}

at::Tensor feedForward(const LinearCall& first, const LinearCall& second) {
  static const auto handle = feedForwardOperator().typed<decltype(feedForwardKernel)>();
  return handle.call(first.input, first.weight.weight, first.weight.bias, first.weight.packed, first.weight.version,
                     static_cast<int64_t>(first.activation), second.weight.weight, second.weight.bias,
                     second.weight.packed, second.weight.version, second.residual, second.norm.weight, second.norm.bias,
                     second.norm.epsilon);
}

at::Tensor unfusedLinear(const LinearCall& call) {
  const auto product = at::linear(call.input, call.weight.weight, call.weight.bias);
  return ended(activated(product, call.activation), call.residual, call.norm);
}

bool canPack(const at::Tensor& weight, const OptionalTensor& bias) {
  return layersPay() && isPlain(weight) && weight.dim() == 2 && weight.numel() > 0 && isVector(bias, weight.size(0));
}

bool canNormalize(const OptionalTensor& weight, const OptionalTensor& bias, int64_t columns) {
  return isVector(weight, columns) && isVector(bias, columns);
}

Weight PackedWeights::of(const at::Tensor& weight, const OptionalTensor& bias) {
  auto& known = known_[weight.const_data_ptr()];
  const bool isKnown =
      known.packed.defined() && known.weight.sizes() == weight.sizes() && known.weight.strides() == weight.strides();
  if (isKnown) return {weight, bias, known.packed, versionOf(weight)};
  const auto version = versionOf(weight);
  const auto source = weight.detach().contiguous();
  auto panels = at::empty({packedSize(source.size(0), source.size(1))}, source.options());
  pack(source.const_data_ptr<float>(), source.size(0), source.size(1), panels.mutable_data_ptr<float>());
  return known = {weight, bias, std::move(panels), version};
}

std::optional<Activation> activationOf(const std::string& operatorName, const std::string& approximate) {
  if (operatorName == "aten::relu") return Activation::Relu;
  if (operatorName == "aten::silu") return Activation::Silu;
  if (operatorName != "aten::gelu") return std::nullopt;
  if (approximate == "none") return Activation::Gelu;
  if (approximate == "tanh") return Activation::GeluTanh;
  return std::nullopt;
}

void registerFusedOperators() {
  auto& library = operatorsOf("lta");
  // They are made of libtorch's operators where it matters, so that these are differentiable and known to all backends.
  constexpr auto kNested = c10::DispatchKey::CompositeImplicitAutogradNestedTensor;
  library.def(
      "linear(Tensor input, Tensor weight, Tensor? bias, Tensor packed, int version, int activation, Tensor? residual, "
      "Tensor? norm_weight, Tensor? norm_bias, float? epsilon) -> Tensor");
  library.impl("linear", linearKernel);
  library.impl("linear", torch::dispatch(kNested, linearKernel));
  library.def(
      "feed_forward(Tensor input, Tensor weight, Tensor? bias, Tensor packed, int version, int activation, "
      "Tensor second_weight, Tensor? second_bias, Tensor second_packed, int second_version, Tensor? residual, "
      "Tensor? norm_weight, Tensor? norm_bias, float? epsilon) -> Tensor");
  library.impl("feed_forward", feedForwardKernel);
  library.impl("feed_forward", torch::dispatch(kNested, feedForwardKernel));
  library.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, "
      "bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor");
  library.impl("attention", attentionKernel);
  library.impl("attention", torch::dispatch(kNested, attentionKernel));
}

}  // namespace lta::fused
