// NativeScriptObject: values of a model without a JavaScript form.
#pragma once

#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>

#include "node/object_wrap.h"
#include "runtime/release_value.h"

namespace lta::node {

// An object of a TorchScript class, a complex number, …: JavaScript can only hold it and pass it back.
class ScriptObjectWrap : public ObjectWrap<ScriptObjectWrap> {
 public:
  static constexpr const char* kName = "NativeScriptObject";
  static constexpr napi_type_tag kTag = {0x6c696274'6f726368, 0x6f626a65'63740001};
  static Napi::FunctionReference& constructor(Environment& environment) { return environment.scriptObjectClass; }

  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Object wrap(Napi::Env env, c10::IValue value);
  const c10::IValue& value() const { return value_; }

  explicit ScriptObjectWrap(const Napi::CallbackInfo& info) : ObjectWrap<ScriptObjectWrap>(info) {}

 private:
  Napi::Value type(const Napi::CallbackInfo& info);

  ReleasedValue value_;
};

}  // namespace lta::node
