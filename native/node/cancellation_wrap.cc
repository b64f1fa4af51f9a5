#include "node/cancellation_wrap.h"

#include <chrono>

#include "node/environment.h"

namespace lta::node {
namespace {

RunLimits limits(Napi::Value milliseconds, Napi::Value bytes) {
  RunLimits limits;
  if (milliseconds.IsNumber()) {
    // Anything longer than a century is as good as that.
    const auto most = std::min(milliseconds.As<Napi::Number>().DoubleValue(), 3.2e12);
    limits.time = std::chrono::nanoseconds(static_cast<int64_t>(most * 1e6));
  }
  if (bytes.IsNumber()) limits.memory = bytes.As<Napi::Number>().Int64Value();
  return limits;
}

}  // namespace

void CancellationWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function = DefineClass(env, "NativeCancellation", {InstanceMethod("request", &CancellationWrap::request)});
  environment(env).cancellationClass = Napi::Persistent(function);
  exports.Set("NativeCancellation", function);
}

CancellationWrap::CancellationWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<CancellationWrap>(info),
      cancellation_(std::make_shared<Cancellation>(environment(info.Env()).channel->ended(), limits(info[1], info[2]),
                                                   info[0].ToBoolean().Value())) {}

void CancellationWrap::request(const Napi::CallbackInfo&) { cancellation_->request(); }

CancellationPtr CancellationWrap::of(Napi::Value value) {
  if (!value.IsObject()) return nullptr;
  return Unwrap(value.As<Napi::Object>())->cancellation_;
}

}  // namespace lta::node
