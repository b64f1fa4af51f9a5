#include "capture/probe.h"

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "capture/fused_layers.h"
#include "capture/masked_scores.h"
#include "capture/watched_operators.h"
#include "torch/dispatcher.h"
#include "torch/fused_operators.h"

namespace lta {
namespace {

Capture* currentCapture() { return runLocal<Capture>(kCaptureSlot); }

Capture& capture() {
  auto* const current = currentCapture();
  TORCH_INTERNAL_ASSERT(current, "the attention probe is active on a thread without a capture");
  return *current;
}

c10::DispatchKeySet below(c10::DispatchKeySet keys) { return keysBelow(kProbeKey, keys); }

// A fused operator that contains its softmax as an operator of its own: while it runs, softmaxes are its weights.
struct Fused {
  const char* operatorName;
  std::string module;
  bool seen = false;
};
thread_local Fused* fused = nullptr;

class FusedScope {
 public:
  FusedScope(const char* operatorName, const at::Tensor& weight) {
    if (fused) return;  // an encoder layer contains a multi-head attention: the outer one names it
    auto& modules = capture().modules();
    here_ = {operatorName, modules.ownerOf(weight)};
    if (here_.module.empty()) here_.module = modules.current();
    fused = &here_;
    entered_ = true;
  }
  ~FusedScope() {
    if (entered_) fused = nullptr;
  }
  FusedScope(const FusedScope&) = delete;
  FusedScope& operator=(const FusedScope&) = delete;

  // To be told when the operator has run: for inputs without elements it skips its softmax.
  void ran(const at::Tensor& query, const at::Tensor& key, int64_t heads) const {
    if (!entered_ || here_.seen || query.is_nested() || query.dim() != 3 || query.numel() != 0) return;
    const ProbeSuspended suspended;
    const auto none = at::empty({query.size(0), heads, query.size(1), key.size(1)}, query.options());
    capture().onVisibleWeights(here_.operatorName, here_.module, none, capture().retainScores(none));
  }

 private:
  Fused here_{};
  bool entered_ = false;
};

// ---- fused kernels -------------------------------------------------------------------------------------------------

at::Tensor scaledDotProductAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                     const std::optional<at::Tensor>& mask, double dropout, bool causal,
                                     std::optional<double> scale, bool groupedQuery) {
  const ProbeSuspended suspended;
  auto& target = capture();
  if (fused) fused->seen = true;
  const auto kernel = [&] {
    return at::scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale, groupedQuery);
  };
  return target.onFusedKernel(fused ? fused->operatorName : "scaled_dot_product_attention",
                              fused ? fused->module : target.modules().current(),
                              {query, key, mask, causal, scale, groupedQuery}, value, dropout, kernel);
}

std::tuple<at::Tensor, at::Tensor> nativeMultiHeadAttention(c10::DispatchKeySet keys, const at::Tensor& query,
                                                            const at::Tensor& key, const at::Tensor& value,
                                                            int64_t embedDim, int64_t heads,
                                                            const at::Tensor& qkvWeight, const at::Tensor& qkvBias,
                                                            const at::Tensor& projWeight, const at::Tensor& projBias,
                                                            const std::optional<at::Tensor>& mask, bool needWeights,
                                                            bool averageWeights, std::optional<int64_t> maskType) {
  FusedScope scope("native_multi_head_attention", qkvWeight);
  auto result = at::_ops::_native_multi_head_attention::redispatch(below(keys), query, key, value, embedDim, heads,
                                                                   qkvWeight, qkvBias, projWeight, projBias, mask,
                                                                   needWeights, averageWeights, maskType);
  scope.ran(query, key, heads);
  return result;
}

at::Tensor transformerEncoderLayer(c10::DispatchKeySet keys, const at::Tensor& src, int64_t embedDim, int64_t heads,
                                   const at::Tensor& qkvWeight, const at::Tensor& qkvBias, const at::Tensor& projWeight,
                                   const at::Tensor& projBias, bool gelu, bool normFirst, double eps,
                                   const at::Tensor& normWeight1, const at::Tensor& normBias1,
                                   const at::Tensor& normWeight2, const at::Tensor& normBias2,
                                   const at::Tensor& ffnWeight1, const at::Tensor& ffnBias1,
                                   const at::Tensor& ffnWeight2, const at::Tensor& ffnBias2,
                                   const std::optional<at::Tensor>& mask, std::optional<int64_t> maskType) {
  FusedScope scope("transformer_encoder_layer", qkvWeight);
  auto result = at::_ops::_transformer_encoder_layer_fwd::redispatch(
      below(keys), src, embedDim, heads, qkvWeight, qkvBias, projWeight, projBias, gelu, normFirst, eps, normWeight1,
      normBias1, normWeight2, normBias2, ffnWeight1, ffnBias1, ffnWeight2, ffnBias2, mask, maskType);
  scope.ran(src, src, heads);
  return result;
}

// ---- softmax -------------------------------------------------------------------------------------------------------

// `scores`: what it is of, masks added, as the capture retained it.
void sawSoftmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, Capture::RetainedScores scores) {
  auto& target = capture();
  if (fused) {
    fused->seen = true;
    target.onVisibleWeights(fused->operatorName, fused->module, result, scores);
  } else {
    target.onSoftmax(input, result, dim, std::move(scores));
  }
}

at::Tensor softmax(const at::Tensor& self, int64_t dim, std::optional<at::ScalarType> dtype) {
  const ProbeSuspended suspended;
  auto result = at::softmax(self, dim, dtype);
  sawSoftmax(self, result, dim, capture().retainScores(self));
  return result;
}

at::Tensor softmaxKernel(const at::Tensor& self, int64_t dim, bool halfToFloat) {
  const ProbeSuspended suspended;
  auto result = at::_softmax(self, dim, halfToFloat);
  sawSoftmax(self, result, dim, capture().retainScores(self));
  return result;
}

at::Tensor safeSoftmax(const at::Tensor& self, int64_t dim, std::optional<at::ScalarType> dtype) {
  const ProbeSuspended suspended;
  auto result = at::_safe_softmax(self, dim, dtype);
  sawSoftmax(self, result, dim, capture().retainScores(self));
  return result;
}

at::Tensor& softmaxOut(const at::Tensor& self, int64_t dim, bool halfToFloat, at::Tensor& out) {
  const ProbeSuspended suspended;
  auto scores = capture().retainScores(self);  // which may be what is written over
  capture().beforeWrite(out);
  at::_softmax_out(out, self, dim, halfToFloat);
  sawSoftmax(self, out, dim, std::move(scores));
  return out;
}

at::Tensor maskedSoftmax(const at::Tensor& self, const at::Tensor& mask, std::optional<int64_t> dim,
                         std::optional<int64_t> maskType) {
  const ProbeSuspended suspended;
  auto result = at::_masked_softmax(self, mask, dim, maskType);
  Capture::RetainedScores scores;
  if (capture().takesScores()) scores = capture().retainScores(maskedScores(self, mask, maskType));
  sawSoftmax(self, result, dim.value_or(-1), std::move(scores));
  return result;
}

at::Tensor nestedSoftmax(const at::Tensor& self, const at::Tensor& query) {
  const ProbeSuspended suspended;  // the softmaxes of the single sequences in it aren't to be counted again
  auto result = at::_nested_tensor_softmax_with_shape(self, query);
  Capture::RetainedScores scores;
  if (capture().takesScores()) scores = capture().retainScores(paddedScores(self, query));
  sawSoftmax(self, result, -1, std::move(scores));
  return result;
}

at::Tensor nestedFromMask(c10::DispatchKeySet keys, const at::Tensor& padded, const at::Tensor& mask, bool checked) {
  auto result = at::_ops::_nested_tensor_from_mask::redispatch(below(keys), padded, mask, checked);
  const ProbeSuspended suspended;
  capture().onNested(padded, result);
  return result;
}

bool insideFused() { return fused != nullptr; }

}  // namespace

ProbeScope::ProbeScope(std::shared_ptr<Capture> capture)
    : info_(kCaptureSlot, std::static_pointer_cast<RunLocal>(std::move(capture))), key_(kProbeKey) {
  watchNewOperators();
}

at::Tensor returnedBeside(const at::Tensor& output, const at::Tensor& weights) {
  auto* const current = currentCapture();
  return current ? current->onReturnedWeights(output, weights) : weights;
}

void registerProbe() {
  kernelsUnder(kProbeKey, "_").fallback(torch::CppFunction::makeFallthrough());

  auto& library = kernelsUnder(kProbeKey, "aten");
  library.impl("scaled_dot_product_attention", scaledDotProductAttention);
  library.impl("_native_multi_head_attention", nativeMultiHeadAttention);
  library.impl("_transformer_encoder_layer_fwd", transformerEncoderLayer);

  library.impl("softmax.int", softmax);
  library.impl("_softmax", softmaxKernel);
  library.impl("_softmax.out", softmaxOut);
  library.impl("_safe_softmax", safeSoftmax);
  library.impl("_masked_softmax", maskedSoftmax);
  library.impl("_nested_tensor_softmax_with_shape", nestedSoftmax);

  library.impl("_nested_tensor_from_mask", nestedFromMask);

  registerFusedLayers(currentCapture);
  watchOperators({"aten::_softmax.out", "lta::attention"}, currentCapture, insideFused);
}

}  // namespace lta
