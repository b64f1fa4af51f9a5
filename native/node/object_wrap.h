// The base of objects that JavaScript holds and C++ implements: type tags, checked unwrapping.
#pragma once

#include <napi.h>

#include <string>

#include "node/arguments.h"
#include "node/environment.h"
#include "runtime/error.h"

namespace lta::node {

// `Wrap` has
//   kName             its class's name in JavaScript
//   kTag              its type tag, which tells its objects from all others
//   constructor(env)  where the environment keeps the class
// JavaScript can't construct them unless `kConstructible`.
template <typename Wrap, bool kConstructible = false>
class ObjectWrap : public Napi::ObjectWrap<Wrap> {
 public:
  // The C++ object of a value; null for other values.
  static Wrap* find(Napi::Value value) {
    if (!value.IsObject()) return nullptr;
    const auto object = value.As<Napi::Object>();
    return object.CheckTypeTag(&Wrap::kTag) ? Wrap::Unwrap(object) : nullptr;
  }

  // The same, or throws ERR_INVALID_ARGUMENT.
  static Wrap& get(Napi::Value value, const std::string& what) {
    auto* const found = find(value);
    if (!found) mismatch(std::string("a ") + Wrap::kName, what, value);
    return *found;
  }

 protected:
  // A new object, not yet initialised.
  static Napi::Object make(Napi::Env env) {
    auto& here = environment(env);
    here.constructing = true;
    try {
      auto object = Wrap::constructor(here).New({});
      here.constructing = false;
      return object;
    } catch (...) {
      here.constructing = false;
      throw;
    }
  }

  // To be called once per environment.
  static void defineClass(Napi::Env env, Napi::Object exports,
                          const std::initializer_list<Napi::ClassPropertyDescriptor<Wrap>>& members) {
    const auto function = Wrap::DefineClass(env, Wrap::kName, members);
    Wrap::constructor(environment(env)) = Napi::Persistent(function);
    exports.Set(Wrap::kName, function);
  }

 private:
  friend Wrap;
  explicit ObjectWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Wrap>(info) {
    if (!kConstructible && !environment(info.Env()).constructing) {
      throw Napi::TypeError::New(info.Env(), std::string("Illegal constructor: ") + Wrap::kName);
    }
    info.This().template As<Napi::Object>().TypeTag(&Wrap::kTag);
  }
};

}  // namespace lta::node
