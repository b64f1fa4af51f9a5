#include "node/script_object_wrap.h"

#include <ATen/core/jit_type.h>

#include <utility>

#include "node/environment.h"
#include "node/errors.h"

namespace lta::node {
namespace {

constexpr napi_type_tag kTag = {0x6c696274'6f726368, 0x6f626a65'63740001};

}  // namespace

void ScriptObjectWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function = DefineClass(env, "NativeScriptObject", {InstanceMethod("type", &ScriptObjectWrap::type)});
  environment(env).scriptObjectClass = Napi::Persistent(function);
  exports.Set("NativeScriptObject", function);
}

Napi::Object ScriptObjectWrap::wrap(Napi::Env env, c10::IValue value) {
  auto object = environment(env).scriptObjectClass.New({});
  Unwrap(object)->value_ = std::move(value);
  return object;
}

bool ScriptObjectWrap::is(Napi::Value value) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag);
}

const c10::IValue& ScriptObjectWrap::of(Napi::Value value) { return Unwrap(value.As<Napi::Object>())->value_; }

ScriptObjectWrap::ScriptObjectWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ScriptObjectWrap>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

// → the name that TorchScript has for its type
Napi::Value ScriptObjectWrap::type(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), of(info.This()).type()->annotation_str()); });
}

}  // namespace lta::node
