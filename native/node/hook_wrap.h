// NativeHook: a registered hook.
#pragma once

#include <napi.h>

#include <memory>

#include "hooks/recorder.h"
#include "node/object_wrap.h"

namespace lta::node {

// new NativeHook(kind, callback or undefined for a recorder, path).
class HookWrap : public ObjectWrap<HookWrap, /*kConstructible=*/true> {
 public:
  static constexpr const char* kName = "NativeHook";
  static constexpr napi_type_tag kTag = {0x6c696274'6f726368, 0x686f6f6b'00000001};
  static Napi::FunctionReference& constructor(Environment& environment) { return environment.hookClass; }

  static void define(Napi::Env env, Napi::Object exports);
  explicit HookWrap(const Napi::CallbackInfo& info);

  const HookPtr& hook() const { return hook_; }

 private:
  Napi::Value calls(const Napi::CallbackInfo& info);
  Napi::Value reached(const Napi::CallbackInfo& info);
  Napi::Value record(const Napi::CallbackInfo& info);

  HookPtr hook_;
};

}  // namespace lta::node
