#include "node/script_object_wrap.h"

#include <ATen/core/jit_type.h>

#include <utility>

#include "node/environment.h"
#include "node/errors.h"

namespace lta::node {

void ScriptObjectWrap::define(Napi::Env env, Napi::Object exports) {
  defineClass(env, exports, {InstanceMethod("type", &ScriptObjectWrap::type)});
}

Napi::Object ScriptObjectWrap::wrap(Napi::Env env, c10::IValue value) {
  auto object = make(env);
  Unwrap(object)->value_ = ReleasedValue(std::move(value));
  return object;
}

// → TorchScript's name of its type
Napi::Value ScriptObjectWrap::type(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), value().type()->annotation_str()); });
}

}  // namespace lta::node
