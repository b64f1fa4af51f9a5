#include "node/relevance_functions.h"

#include "capture/relevance.h"
#include "node/arguments.h"
#include "node/errors.h"
#include "node/tensor_wrap.h"

namespace lta::node {
namespace {

// One matrix per layer, all of the same size.
std::vector<at::Tensor> layers(Napi::Value value, const char* what, int64_t leastDims) {
  auto list = tensorsArgument(value, what);
  if (list.empty()) mismatch("at least one layer", what, value);
  for (const auto& each : list) {
    const bool fits = each.dim() >= leastDims && each.dim() <= 4 && each.size(-1) == each.size(-2) &&
                      each.size(0) == list.front().size(0) && each.size(-1) == list.front().size(-1);
    if (!fits) mismatch("square matrices of one size", what, value);
  }
  return list;
}

// (weights, 'mean' | 'max' | 'min') → NativeTensor
Napi::Value rollout(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    static constexpr HeadFusion kFusions[] = {HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min};
    const auto fusion = kFusions[choiceArgument(info[1], "fusion", {"mean", "max", "min"})];
    return TensorWrap::wrap(info.Env(), attentionRollout(layers(info[0], "weights", 3), fusion));
  });
}

// (weights, gradients) → NativeTensor
Napi::Value relevance(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto weights = layers(info[0], "weights", 4), gradients = layers(info[1], "gradients", 4);
    if (weights.size() != gradients.size()) mismatch("as many gradients as weights", "gradients", info[1]);
    return TensorWrap::wrap(info.Env(), attentionRelevance(weights, gradients));
  });
}

}  // namespace

void defineRelevanceFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("attentionRollout", Napi::Function::New(env, rollout));
  exports.Set("attentionRelevance", Napi::Function::New(env, relevance));
}

}  // namespace lta::node
