#pragma once

#include <ATen/core/ivalue.h>
#include <napi.h>

#include <string>

#include "runtime/release_value.h"

namespace lta::node {

// A value of a model that JavaScript has no form for (an object of a TorchScript class, a complex number, …): it can be
// held and given back, nothing else.
class ScriptObjectWrap : public Napi::ObjectWrap<ScriptObjectWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Object wrap(Napi::Env env, c10::IValue value);
  static bool is(Napi::Value value);
  // The value behind one that `is`.
  static const c10::IValue& of(Napi::Value value);

  explicit ScriptObjectWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value type(const Napi::CallbackInfo& info);

  ReleasedValue value_;
};

}  // namespace lta::node
