// NativeCancellation: how JavaScript stops a run.
#pragma once

#include <napi.h>

#include "node/object_wrap.h"
#include "runtime/cancellation.h"

namespace lta::node {

// new NativeCancellation(mayBeRequested, milliseconds, bytes), the last two undefined without such a limit;
// `request()`. The end of the environment stops the run as well.
class CancellationWrap : public ObjectWrap<CancellationWrap, /*kConstructible=*/true> {
 public:
  static constexpr const char* kName = "NativeCancellation";
  static constexpr napi_type_tag kTag = {0x6c696274'6f726368, 0x63616e63'656c0001};
  static Napi::FunctionReference& constructor(Environment& environment) { return environment.cancellationClass; }

  static void define(Napi::Env env, Napi::Object exports);
  static CancellationPtr of(Napi::Value value);  // null for undefined
  explicit CancellationWrap(const Napi::CallbackInfo& info);

 private:
  void request(const Napi::CallbackInfo& info);
  CancellationPtr cancellation_;
};

}  // namespace lta::node
