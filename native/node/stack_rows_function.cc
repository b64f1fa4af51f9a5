#include "node/stack_rows_function.h"

#include <vector>

#include "capture/stack_rows.h"
#include "node/arguments.h"
#include "node/async.h"
#include "node/errors.h"
#include "node/tensor_wrap.h"

namespace lta::node {
namespace {

// (NativeTensor[][], fill) → Promise<NativeTensor[]>
Napi::Value stack(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto lists = arrayArgument(info[0], "parts");
    std::vector<std::vector<at::Tensor>> parts;
    for (uint32_t i = 0; i < lists.Length(); ++i) {
      parts.push_back(tensorsArgument(lists.Get(i), "an element of parts"));
      if (parts.back().empty() || parts.back().front().dim() < 2)
        mismatch("at least one matrix", "parts", lists.Get(i));
    }
    const auto fill = numberArgument(info[1], "fill");
    return runAsync<std::vector<at::Tensor>>(
        info.Env(),
        [parts = std::move(parts), fill] {
          std::vector<at::Tensor> stacked;
          for (const auto& each : parts) stacked.push_back(stackRows(each, fill));
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
