#pragma once

#include <napi.h>

#include "runtime/cancellation.h"

namespace lta::node {

// What JavaScript holds to stop a run: new NativeCancellation(mayBeRequested, milliseconds, bytes), the last two
// undefined where there is no such limit; `request()`. The end of the environment stops the run as well.
class CancellationWrap : public Napi::ObjectWrap<CancellationWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static CancellationPtr of(Napi::Value value);  // none for undefined
  explicit CancellationWrap(const Napi::CallbackInfo& info);

 private:
  void request(const Napi::CallbackInfo& info);
  CancellationPtr cancellation_;
};

}  // namespace lta::node
