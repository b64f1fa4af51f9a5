#include "node/stack_rows_function.h"

#include <vector>

#include "capture/stack_rows.h"
#include "node/async.h"
#include "node/errors.h"
#include "node/tensor_wrap.h"

namespace lta::node {
namespace {

// (NativeTensor[][]) → Promise<NativeTensor[]>
Napi::Value stack(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto lists = info[0].As<Napi::Array>();
    std::vector<std::vector<at::Tensor>> parts(lists.Length());
    for (uint32_t i = 0; i < lists.Length(); ++i) {
      const auto list = lists.Get(i).As<Napi::Array>();
      for (uint32_t k = 0; k < list.Length(); ++k) parts[i].push_back(TensorWrap::of(list.Get(k)));
    }
    return runAsync<std::vector<at::Tensor>>(
        info.Env(),
        [parts = std::move(parts)] {
          std::vector<at::Tensor> stacked;
          for (const auto& each : parts) stacked.push_back(stackRows(each));
          return stacked;
        },
        [](Napi::Env env, const std::vector<at::Tensor>& tensors) -> Napi::Value {
          auto list = Napi::Array::New(env, tensors.size());
          for (uint32_t i = 0; i < tensors.size(); ++i) list.Set(i, TensorWrap::wrap(env, tensors[i]));
          return list;
        },
        {"ERR_INVALID_ARGUMENT"});
  });
}

}  // namespace

void defineStackRows(Napi::Env env, Napi::Object exports) { exports.Set("stackRows", Napi::Function::New(env, stack)); }

}  // namespace lta::node
