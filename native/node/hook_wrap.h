#pragma once

#include <napi.h>

#include <memory>

#include "hooks/recorder.h"
#include "script/script_module.h"

namespace lta::node {

// A registered hook as JavaScript holds it: new NativeHook(kind, path, callback or undefined for a recorder).
class HookWrap : public Napi::ObjectWrap<HookWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  explicit HookWrap(const Napi::CallbackInfo& info);

  static HookWrap& of(Napi::Value value) { return *Unwrap(value.As<Napi::Object>()); }
  const HookPtr& hook() const { return hook_; }

 private:
  Napi::Value calls(const Napi::CallbackInfo& info);
  Napi::Value reached(const Napi::CallbackInfo& info);
  Napi::Value record(const Napi::CallbackInfo& info);

  HookPtr hook_;
};

}  // namespace lta::node
