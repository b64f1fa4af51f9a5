#include "node/cancellation_wrap.h"

#include <chrono>

#include "node/arguments.h"
#include "node/environment.h"
#include "node/errors.h"

namespace lta::node {
namespace {

RunLimits limits(Napi::Value milliseconds, Napi::Value bytes) {
  RunLimits limits;
  if (!milliseconds.IsUndefined()) {
    const auto time = numberArgument(milliseconds, "milliseconds");
    if (!(time >= 0)) mismatch("a number of at least 0", "milliseconds", milliseconds);
    // Clamped to a century, which fits in 64 bits of nanoseconds.
    limits.time = std::chrono::nanoseconds(static_cast<int64_t>(std::min(time, 3.2e12) * 1e6));
  }
  if (!bytes.IsUndefined()) limits.memory = integerArgument(bytes, "bytes", 0);
  return limits;
}

}  // namespace

void CancellationWrap::define(Napi::Env env, Napi::Object exports) {
  defineClass(env, exports, {InstanceMethod("request", &CancellationWrap::request)});
}

CancellationWrap::CancellationWrap(const Napi::CallbackInfo& info)
    : ObjectWrap<CancellationWrap, true>(info), cancellation_(guarded(info.Env(), [&] {
        return std::make_shared<Cancellation>(environment(info.Env()).channel->ended(), limits(info[1], info[2]),
                                              booleanArgument(info[0], "mayBeRequested"));
      })) {}

void CancellationWrap::request(const Napi::CallbackInfo&) { cancellation_->request(); }

CancellationPtr CancellationWrap::of(Napi::Value value) {
  return value.IsUndefined() ? nullptr : get(value, "cancellation").cancellation_;
}

}  // namespace lta::node
