#include "node/relevance_functions.h"

#include "capture/relevance.h"
#include "node/errors.h"
#include "node/tensor_wrap.h"

namespace lta::node {
namespace {

std::vector<at::Tensor> tensors(Napi::Value value) {
  const auto array = value.As<Napi::Array>();
  std::vector<at::Tensor> list;
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(TensorWrap::of(array.Get(i)));
  return list;
}

// (weights, 'mean' | 'max' | 'min') → NativeTensor
Napi::Value rollout(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string name = info[1].As<Napi::String>();
    const auto fusion = name == "max" ? HeadFusion::Max : name == "min" ? HeadFusion::Min : HeadFusion::Mean;
    return TensorWrap::wrap(info.Env(), attentionRollout(tensors(info[0]), fusion));
  });
}

// (weights, gradients) → NativeTensor
Napi::Value relevance(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return TensorWrap::wrap(info.Env(), attentionRelevance(tensors(info[0]), tensors(info[1])));
  });
}

}  // namespace

void defineRelevanceFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("attentionRollout", Napi::Function::New(env, rollout));
  exports.Set("attentionRelevance", Napi::Function::New(env, relevance));
}

}  // namespace lta::node
