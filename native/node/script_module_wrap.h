#pragma once

#include <napi.h>

#include <memory>

#include "node/async.h"
#include "script/script_module.h"

namespace lta::node {

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
  Napi::Value settled(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<const void> beginActivity() const;
  TaskOptions taskOf(const Napi::Object& options) const;
  const std::shared_ptr<ScriptModule>& module() const;

  std::shared_ptr<ScriptModule> module_;
  std::shared_ptr<Activity> activity_;  // outlives the module
};

}  // namespace lta::node
