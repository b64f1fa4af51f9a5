#pragma once

#include <napi.h>

#include <memory>

#include "runtime/cancellation.h"
#include "script/script_module.h"

namespace lta::node {

// A flag that JavaScript holds to stop a run: `new NativeCancellation()`, `request()`.
class CancellationWrap : public Napi::ObjectWrap<CancellationWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static CancellationPtr of(Napi::Value value);  // none for undefined
  explicit CancellationWrap(const Napi::CallbackInfo& info);

 private:
  void request(const Napi::CallbackInfo& info);
  CancellationPtr cancellation_ = std::make_shared<Cancellation>();
};

// The native side of a ScriptModule of the TypeScript layer.
class ScriptModuleWrap : public Napi::ObjectWrap<ScriptModuleWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  explicit ScriptModuleWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ScriptModuleWrap>(info) {}

 private:
  static Napi::Value load(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value capture(const Napi::CallbackInfo& info);
  Napi::Value modules(const Napi::CallbackInfo& info);
  Napi::Value parameters(const Napi::CallbackInfo& info);
  Napi::Value stateDict(const Napi::CallbackInfo& info);
  Napi::Value methods(const Napi::CallbackInfo& info);
  Napi::Value signature(const Napi::CallbackInfo& info);
  Napi::Value to(const Napi::CallbackInfo& info);
  void addHook(const Napi::CallbackInfo& info);
  void removeHook(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  const std::shared_ptr<ScriptModule>& module() const;

  std::shared_ptr<ScriptModule> module_;
};

}  // namespace lta::node
