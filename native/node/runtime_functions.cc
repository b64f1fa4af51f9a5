#include "node/runtime_functions.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include "node/arguments.h"
#include "node/captures.h"
#include "node/dtypes.h"
#include "node/errors.h"
#include "runtime/devices.h"
#include "runtime/executor.h"
#include "runtime/operator_libraries.h"
#include "weights/cpu/result_memory.h"

namespace lta::node {
namespace {

int countArgument(Napi::Value value) { return static_cast<int>(integerArgument(value, "count", 1, 1 << 20)); }

Napi::Value setNumThreads(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Executor::instance().setNumThreads(countArgument(info[0]));
    return info.Env().Undefined();
  });
}

Napi::Value getNumThreads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Executor::instance().numThreads());
}

Napi::Value setConcurrency(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Executor::instance().setConcurrency(countArgument(info[0]));
    return info.Env().Undefined();
  });
}

Napi::Value getConcurrency(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Executor::instance().concurrency());
}

Napi::Value watchExit(const Napi::CallbackInfo& info) {
  Executor::instance().watchExit();
  return info.Env().Undefined();
}

Napi::Value releaseMemory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    lta::releaseMemory();
    return info.Env().Undefined();
  });
}

Napi::Value loadOperators(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    loadOperatorLibrary(stringArgument(info[0], "path"));
    return info.Env().Undefined();
  });
}

Napi::Value loadedOperators(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto paths = operatorLibraries();
    auto list = Napi::Array::New(info.Env(), paths.size());
    for (uint32_t i = 0; i < paths.size(); ++i) list.Set(i, Napi::String::New(info.Env(), paths[i]));
    return list;
  });
}

Napi::Value manualSeed(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    at::manual_seed(static_cast<uint64_t>(integerArgument(info[0], "seed")));
    return info.Env().Undefined();
  });
}

Napi::Value devices(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto names = availableDevices();
    auto list = Napi::Array::New(info.Env(), names.size());
    for (uint32_t i = 0; i < names.size(); ++i) list.Set(i, Napi::String::New(info.Env(), names[i]));
    return list;
  });
}

// The release compiled against, and the loaded libtorch's description of its build (with its CUDA release).
Napi::Value buildInfo(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto object = Napi::Object::New(info.Env());
    object.Set("libtorch", TORCH_VERSION);
    object.Set("config", at::show_config());
    object.Set("hasCuda", Napi::Boolean::New(info.Env(), at::hasCUDA()));
    return object;
  });
}

// The tables that lib/ has as well, for a test to compare: { dtypes: [{ name, bytes }], captureOptions }.
Napi::Value tables(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto env = info.Env();
    auto dtypes = Napi::Array::New(env);
    for (const auto& dtype : kDTypes) {
      auto entry = Napi::Object::New(env);
      entry.Set("name", dtype.name);
      entry.Set("bytes", Napi::Number::New(env, static_cast<double>(dtype.bytes)));
      dtypes.Set(dtypes.Length(), entry);
    }
    auto options = Napi::Array::New(env);
    for (const auto& name : captureOptionNames()) options.Set(options.Length(), Napi::String::New(env, name));
    auto object = Napi::Object::New(env);
    object.Set("dtypes", dtypes);
    object.Set("captureOptions", options);
    return object;
  });
}

}  // namespace

void defineRuntimeFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("setNumThreads", Napi::Function::New(env, setNumThreads));
  exports.Set("getNumThreads", Napi::Function::New(env, getNumThreads));
  exports.Set("setConcurrency", Napi::Function::New(env, setConcurrency));
  exports.Set("getConcurrency", Napi::Function::New(env, getConcurrency));
  exports.Set("watchExit", Napi::Function::New(env, watchExit));
  exports.Set("releaseMemory", Napi::Function::New(env, releaseMemory));
  exports.Set("manualSeed", Napi::Function::New(env, manualSeed));
  exports.Set("loadOperators", Napi::Function::New(env, loadOperators));
  exports.Set("loadedOperators", Napi::Function::New(env, loadedOperators));
  exports.Set("devices", Napi::Function::New(env, devices));
  exports.Set("buildInfo", Napi::Function::New(env, buildInfo));
  exports.Set("tables", Napi::Function::New(env, tables));
}

}  // namespace lta::node
