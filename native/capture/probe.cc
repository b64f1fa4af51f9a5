#include "capture/probe.h"

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "capture/masked_scores.h"
#include "capture/watched_writes.h"
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
  at::Tensor output;
  {
    const ProbeSuspended suspended;
    output = at::scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale, groupedQuery);
    auto& target = capture();
    SdpaArguments call{query, key, mask, causal, scale, groupedQuery};
    if (fused) {
      fused->seen = true;
      output = target.onFusedKernel(fused->operatorName, fused->module, std::move(call), value, output);
    } else {
      output = target.onFusedKernel("scaled_dot_product_attention", target.modules().current(), std::move(call), value,
                                    output);
    }
  }
  return output;
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

// ---- products ------------------------------------------------------------------------------------------------------

// What is told of a product a · b that `run(a, b)` computes.
template <typename Run>
auto watchedProduct(const at::Tensor& a, const at::Tensor& b, Run run) -> decltype(run(a, b)) {
  const ProbeSuspended suspended;
  auto& target = capture();
  auto consumed = target.weightsIn(a, b);
  if (!consumed) return run(a, b);
  const bool first = consumed->operand.is_same(a);
  const auto operand = target.operandOf(*consumed);
  decltype(run(a, b)) result = first ? run(operand, b) : run(a, operand);
  target.onProduct(*consumed, result);
  return result;
}

at::Tensor matmul(const at::Tensor& a, const at::Tensor& b) {
  return watchedProduct(a, b, [&](const at::Tensor& a, const at::Tensor& b) { return at::matmul(a, b); });
}
at::Tensor bmm(const at::Tensor& a, const at::Tensor& b) {
  return watchedProduct(a, b, [&](const at::Tensor& a, const at::Tensor& b) { return at::bmm(a, b); });
}
at::Tensor mm(const at::Tensor& a, const at::Tensor& b) {
  return watchedProduct(a, b, [&](const at::Tensor& a, const at::Tensor& b) { return at::mm(a, b); });
}
at::Tensor baddbmm(const at::Tensor& self, const at::Tensor& a, const at::Tensor& b, const at::Scalar& beta,
                   const at::Scalar& alpha) {
  return watchedProduct(a, b,
                        [&](const at::Tensor& a, const at::Tensor& b) { return at::baddbmm(self, a, b, beta, alpha); });
}

// The same into a tensor that there is already.
template <typename Run>
at::Tensor& watchedProductInto(const at::Tensor& a, const at::Tensor& b, at::Tensor& out, Run run) {
  capture().beforeWrite(out);
  return watchedProduct(a, b, [&](const at::Tensor& a, const at::Tensor& b) -> at::Tensor& {
    run(a, b);
    return out;
  });
}

at::Tensor& matmulOut(const at::Tensor& a, const at::Tensor& b, at::Tensor& out) {
  return watchedProductInto(a, b, out, [&](const at::Tensor& a, const at::Tensor& b) { at::matmul_out(out, a, b); });
}
at::Tensor& bmmOut(const at::Tensor& a, const at::Tensor& b, at::Tensor& out) {
  return watchedProductInto(a, b, out, [&](const at::Tensor& a, const at::Tensor& b) { at::bmm_out(out, a, b); });
}
at::Tensor& mmOut(const at::Tensor& a, const at::Tensor& b, at::Tensor& out) {
  return watchedProductInto(a, b, out, [&](const at::Tensor& a, const at::Tensor& b) { at::mm_out(out, a, b); });
}
at::Tensor& baddbmmOut(const at::Tensor& self, const at::Tensor& a, const at::Tensor& b, const at::Scalar& beta,
                       const at::Scalar& alpha, at::Tensor& out) {
  return watchedProductInto(
      a, b, out, [&](const at::Tensor& a, const at::Tensor& b) { at::baddbmm_out(out, self, a, b, beta, alpha); });
}
at::Tensor& baddbmmInPlace(at::Tensor& self, const at::Tensor& a, const at::Tensor& b, const at::Scalar& beta,
                           const at::Scalar& alpha) {
  return watchedProductInto(a, b, self,
                            [&](const at::Tensor& a, const at::Tensor& b) { self.baddbmm_(a, b, beta, alpha); });
}

// The subscripts of one operand, spaces dropped; empty where '…' or a character makes them hard to tell.
struct Equation {
  std::string operands[2];
  std::string output;
};

std::optional<Equation> parseEquation(c10::string_view text) {
  std::string equation;
  for (const char c : text) {
    if (c == '.') return std::nullopt;
    if (c != ' ') equation.push_back(c);
  }
  const auto arrow = equation.find("->");
  const auto comma = equation.find(',');
  if (arrow == std::string::npos || comma == std::string::npos || comma > arrow) return std::nullopt;
  Equation parsed{{equation.substr(0, comma), equation.substr(comma + 1, arrow - comma - 1)},
                  equation.substr(arrow + 2)};
  if (parsed.operands[1].find(',') != std::string::npos) return std::nullopt;
  return parsed;
}

// Weights in an einsum: subscripts in both operands and the output are batch and heads, those of the weights alone are
// queries, and the one that is summed over is the key.
std::optional<SoftmaxTracker::Consumed> einsumWeights(c10::string_view text, at::TensorList operands) {
  if (operands.size() != 2) return std::nullopt;
  const auto equation = parseEquation(text);
  if (!equation) return std::nullopt;
  for (int side = 0; side < 2; ++side) {
    const auto& own = equation->operands[side];
    const auto& other = equation->operands[1 - side];
    const auto& operand = operands[static_cast<size_t>(side)];
    if (own.size() != static_cast<size_t>(operand.dim()) || !capture().following()) continue;
    std::vector<int64_t> batch, queries, keys;
    for (size_t i = 0; i < own.size(); ++i) {
      const bool inOutput = equation->output.find(own[i]) != std::string::npos;
      const bool inOther = other.find(own[i]) != std::string::npos;
      (inOutput ? (inOther ? batch : queries) : keys).push_back(static_cast<int64_t>(i));
    }
    if (keys.size() != 1 || queries.size() > 1 || other.size() < 2) continue;
    auto order = batch;
    order.insert(order.end(), queries.begin(), queries.end());
    order.insert(order.end(), keys.begin(), keys.end());
    auto arrange = [order, pooled = queries.empty()](const at::Tensor& tensor) {
      const auto permuted = tensor.permute(order);
      return pooled ? permuted.unsqueeze(-2) : permuted;
    };
    const auto& beside = operands[static_cast<size_t>(1 - side)];
    if (auto consumed = capture().weightsIn(operand, beside, keys[0], std::move(arrange))) {
      // The sizes of the softmax are in the order of its own subscripts; those of the operand are already in ours.
      consumed->softmaxSizes.clear();
      return consumed;
    }
  }
  return std::nullopt;
}

at::Tensor einsum(c10::DispatchKeySet keys, c10::string_view equation, at::TensorList operands,
                  at::OptionalIntArrayRef path) {
  if (auto consumed = einsumWeights(equation, operands)) {
    const ProbeSuspended suspended;
    std::vector<at::Tensor> taken = operands.vec();
    const auto place = static_cast<size_t>(consumed->operand.is_same(taken[0]) ? 0 : 1);
    taken[place] = capture().operandOf(*consumed);
    auto result = at::einsum(equation, taken, path);
    capture().onProduct(*consumed, result);
    return result;
  }
  // Seen through: the products that it is made of tell.
  return at::_ops::einsum::redispatch(below(keys), equation, operands, path);
}

// ---- what lies between a softmax and its product -------------------------------------------------------------------

// The signature of each operator comes from its own declaration, so that one template watches them all.
template <typename Op, typename Signature = typename Op::schema>
struct Derived;

template <typename Op, typename... Args>
struct Derived<Op, at::Tensor(Args...)> {
  static at::Tensor run(c10::DispatchKeySet keys, Args... args) {
    auto& target = capture();
    bool fixed = true;  // what is made of parameters, and of single numbers, alone
    bool tensors = false;
    const auto look = [&](const auto& arg) {
      if constexpr (std::is_same_v<std::decay_t<decltype(arg)>, at::Tensor>) {
        const bool here = target.fixedTensors().contains(arg);
        tensors = tensors || here;
        fixed = fixed && (here || (arg.defined() && arg.dim() == 0));
      }
    };
    (look(args), ...);
    auto result = Op::redispatch(below(keys), args...);
    if (fixed && tensors) target.fixedTensors().add(result);
    if (!target.following()) return result;
    const auto tell = [&](const auto& arg) {
      if constexpr (std::is_same_v<std::decay_t<decltype(arg)>, at::Tensor>) target.onDerived(arg, result);
    };
    (tell(args), ...);
    return result;
  }
};

// native_dropout returns its mask as well.
std::tuple<at::Tensor, at::Tensor> nativeDropout(c10::DispatchKeySet keys, const at::Tensor& input, double p,
                                                 std::optional<bool> train) {
  auto result = at::_ops::native_dropout::redispatch(below(keys), input, p, train);
  capture().onDerived(input, std::get<0>(result));
  return result;
}

at::Tensor view(c10::DispatchKeySet keys, const at::Tensor& self, c10::SymIntArrayRef size) {
  auto& target = capture();
  if (target.following()) target.onView(self, C10_AS_INTARRAYREF_SLOW(size));
  return at::_ops::view::redispatch(below(keys), self, size);
}

at::Tensor unsafeView(c10::DispatchKeySet keys, const at::Tensor& self, c10::SymIntArrayRef size) {
  auto& target = capture();
  if (target.following()) target.onView(self, C10_AS_INTARRAYREF_SLOW(size));
  return at::_ops::_unsafe_view::redispatch(below(keys), self, size);
}

at::Tensor reshape(c10::DispatchKeySet keys, const at::Tensor& self, c10::SymIntArrayRef shape) {
  auto& target = capture();
  if (target.following()) target.onView(self, C10_AS_INTARRAYREF_SLOW(shape));
  return at::_ops::reshape::redispatch(below(keys), self, shape);
}

template <typename Op>
void watchDerived(torch::Library& library, const char* name) {
  library.impl(name, torch::CppFunction::makeFromUnboxedFunction(&Derived<Op>::run));
}

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

  library.impl("matmul", matmul);
  library.impl("bmm", bmm);
  library.impl("mm", mm);
  library.impl("baddbmm", baddbmm);
  library.impl("matmul.out", matmulOut);
  library.impl("bmm.out", bmmOut);
  library.impl("mm.out", mmOut);
  library.impl("baddbmm.out", baddbmmOut);
  library.impl("baddbmm_", baddbmmInPlace);
  library.impl("einsum", einsum);

  watchDerived<at::_ops::_to_copy>(library, "_to_copy");
  watchDerived<at::_ops::clone>(library, "clone");
  watchDerived<at::_ops::dropout>(library, "dropout");
  watchDerived<at::_ops::mul_Tensor>(library, "mul.Tensor");
  watchDerived<at::_ops::mul_Scalar>(library, "mul.Scalar");
  watchDerived<at::_ops::div_Tensor>(library, "div.Tensor");
  watchDerived<at::_ops::div_Scalar>(library, "div.Scalar");
  watchDerived<at::_ops::masked_fill_Scalar>(library, "masked_fill.Scalar");
  watchDerived<at::_ops::masked_fill_Tensor>(library, "masked_fill.Tensor");
  watchDerived<at::_ops::where_self>(library, "where.self");
  watchDerived<at::_ops::nan_to_num>(library, "nan_to_num");
  library.impl("native_dropout", nativeDropout);
  library.impl("view", view);
  library.impl("_unsafe_view", unsafeView);
  library.impl("reshape", reshape);

  // The kernels above that write tell of it themselves.
  watchWrites({"aten::_softmax.out", "aten::matmul.out", "aten::bmm.out", "aten::mm.out", "aten::baddbmm.out",
               "aten::baddbmm_"},
              currentCapture);
}

}  // namespace lta
