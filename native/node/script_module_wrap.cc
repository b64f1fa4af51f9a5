#include "node/script_module_wrap.h"

#include "node/async.h"
#include "node/callback.h"
#include "node/dtypes.h"
#include "node/environment.h"
#include "node/errors.h"
#include "node/hook_wrap.h"
#include "node/tensor_wrap.h"
#include "node/values.h"
#include "runtime/devices.h"

namespace lta::node {
namespace {

std::vector<int64_t> integers(Napi::Value value) {
  std::vector<int64_t> list;
  const auto array = value.As<Napi::Array>();
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(array.Get(i).As<Napi::Number>().Int64Value());
  return list;
}

Napi::Array toArray(Napi::Env env, const std::vector<int64_t>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) array.Set(i, Napi::Number::New(env, static_cast<double>(list[i])));
  return array;
}

bool flag(const Napi::Object& options, const char* name) {
  const auto value = options.Get(name);
  return value.IsBoolean() && value.As<Napi::Boolean>().Value();
}

RunOptions runOptions(const Napi::Object& options) {
  RunOptions run;
  if (const auto method = options.Get("method"); method.IsString()) run.method = method.As<Napi::String>();
  run.grad = flag(options, "grad");
  run.cancellation = CancellationWrap::of(options.Get("cancellation"));
  return run;
}

// A run that is begun inside a hook is waited for by the run that the hook belongs to.
Executor::Kind kindOf(const Napi::Object& options) {
  return flag(options, "insideHook") ? Executor::Kind::Urgent : Executor::Kind::Run;
}

// The layer above has checked and normalised these.
CaptureOptions captureOptions(const Napi::Object& options) {
  CaptureOptions capture;
  if (const auto layers = options.Get("layers"); layers.IsArray()) {
    const auto list = layers.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); ++i) {
      const auto layer = list.Get(i).As<Napi::Object>();
      LayerSelector selector;
      selector.label = layer.Get("label").As<Napi::String>();
      if (const auto position = layer.Get("position"); position.IsNumber()) {
        selector.position = position.As<Napi::Number>().Int64Value();
      } else {
        const auto names = layer.Get("names").As<Napi::Array>();
        for (uint32_t k = 0; k < names.Length(); ++k) selector.names.push_back(names.Get(k).As<Napi::String>());
      }
      capture.layers.push_back(std::move(selector));
    }
  }
  if (const auto heads = options.Get("heads"); heads.IsArray()) capture.heads = integers(heads);
  if (const auto queries = options.Get("queries"); queries.IsArray()) {
    capture.queries = integers(queries);
  } else if (queries.IsObject()) {
    const auto range = queries.As<Napi::Object>();
    capture.queryRange = QueryRange{range.Get("start").As<Napi::Number>().Int64Value(),
                                    range.Get("end").As<Napi::Number>().Int64Value()};
  }
  capture.averageHeads = flag(options, "averageHeads");
  if (const auto count = options.Get("topK"); count.IsNumber()) capture.topK = count.As<Napi::Number>().Int64Value();
  capture.toCpu = !flag(options, "sameDevice");
  capture.toFloat = !flag(options, "sameDtype");
  capture.sitesOnly = flag(options, "sitesOnly");
  capture.gradients = flag(options, "gradients");
  if (const auto bytes = options.Get("maxBytes"); bytes.IsNumber()) {
    capture.maxBytes = bytes.As<Napi::Number>().Int64Value();
  }
  return capture;
}

Napi::Object fromAttention(Napi::Env env, const Attention& attention) {
  const auto& site = attention.site;
  auto object = Napi::Object::New(env);
  object.Set("index", Napi::Number::New(env, static_cast<double>(site.index)));
  object.Set("name", site.name);
  object.Set("operator", site.operatorName);
  object.Set("heads", toArray(env, attention.heads));
  object.Set("queries", toArray(env, attention.queries));
  if (attention.weights.defined()) {
    object.Set("weights", TensorWrap::wrap(env, attention.weights));
    if (attention.keys.defined()) object.Set("keys", TensorWrap::wrap(env, attention.keys));
  } else {
    const auto& shape = site.shape;
    object.Set("shape", toArray(env, {shape.batch, shape.heads, shape.queries, shape.keys}));
    object.Set("dtype", nameOf(site.dtype));
    object.Set("device", site.device.str());
  }
  return object;
}

// Hands attentions to a JavaScript function, called as hooks are: (settle, '', '', attention).
std::function<void(Attention)> handOver(Napi::Function function, const CancellationPtr& cancellation) {
  return [callback = std::make_shared<Callback>(function), cancellation](Attention attention) {
    // Shared, since a cancelled run doesn't wait for the event loop to look at it.
    const auto shared = std::make_shared<Attention>(std::move(attention));
    try {
      callback->call(
          [shared](Napi::Env env) {
            const auto object = fromAttention(env, *shared);
            *shared = {};
            return std::vector<napi_value>{Napi::String::New(env, ""), Napi::String::New(env, ""), object};
          },
          [](Napi::Value) {}, cancellation);
    } catch (const Error& error) {
      if (!error.cause()) throw;
      throw Error(error.code(), "onAttention failed").withCause(error.cause());
    }
  };
}

}  // namespace

void CancellationWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function =
      DefineClass(env, "NativeCancellation", {InstanceMethod("request", &CancellationWrap::request)});
  environment(env).cancellationClass = Napi::Persistent(function);
  exports.Set("NativeCancellation", function);
}

CancellationWrap::CancellationWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CancellationWrap>(info) {}

void CancellationWrap::request(const Napi::CallbackInfo&) { cancellation_->request(); }

CancellationPtr CancellationWrap::of(Napi::Value value) {
  if (!value.IsObject()) return nullptr;
  return Unwrap(value.As<Napi::Object>())->cancellation_;
}

void GradientsWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function = DefineClass(env, "NativeGradients", {InstanceMethod("of", &GradientsWrap::of)});
  environment(env).gradientsClass = Napi::Persistent(function);
  exports.Set("NativeGradients", function);
}

Napi::Object GradientsWrap::wrap(Napi::Env env, const CaptureResult& result) {
  auto object = environment(env).gradientsClass.New({});
  auto* gradients = Unwrap(object);
  for (const auto& attention : result.attentions) gradients->points_.push_back(attention.gradient);
  gradients->capture_ = result.capture;
  return object;
}

Napi::Value GradientsWrap::of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    // The points are given up with the graph that they belong to.
    return runAsync<std::vector<at::Tensor>>(
        info.Env(),
        [scalar = TensorWrap::of(info[0]), points = std::move(points_), capture = std::move(capture_)] {
          return gradientsOf(scalar, points);
        },
        [](Napi::Env env, const std::vector<at::Tensor>& tensors) -> Napi::Value {
          auto list = Napi::Array::New(env, tensors.size());
          for (uint32_t i = 0; i < tensors.size(); ++i) list.Set(i, TensorWrap::wrap(env, tensors[i]));
          return list;
        },
        "ERR_MODEL_RUN");
  });
}

void ScriptModuleWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function = DefineClass(env, "NativeScriptModule",
                                    {
                                        StaticMethod("load", &ScriptModuleWrap::load),
                                        InstanceMethod("run", &ScriptModuleWrap::run),
                                        InstanceMethod("capture", &ScriptModuleWrap::capture),
                                        InstanceMethod("modules", &ScriptModuleWrap::modules),
                                        InstanceMethod("parameters", &ScriptModuleWrap::parameters),
                                        InstanceMethod("methods", &ScriptModuleWrap::methods),
                                        InstanceMethod("signature", &ScriptModuleWrap::signature),
                                        InstanceMethod("to", &ScriptModuleWrap::to),
                                        InstanceMethod("addHook", &ScriptModuleWrap::addHook),
                                        InstanceMethod("removeHook", &ScriptModuleWrap::removeHook),
                                        InstanceMethod("dispose", &ScriptModuleWrap::dispose),
                                    });
  environment(env).scriptModuleClass = Napi::Persistent(function);
  exports.Set("NativeScriptModule", function);
}

const std::shared_ptr<ScriptModule>& ScriptModuleWrap::module() const {
  if (!module_) throw Error("ERR_DISPOSED", "Expected a live ScriptModule but this one was disposed");
  return module_;
}

// (path or bytes, { device, dtype, optimize }) → Promise<NativeScriptModule>
Napi::Value ScriptModuleWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto options = info[1].As<Napi::Object>();
    LoadOptions load;
    load.device = parseDevice(options.Get("device").As<Napi::String>());
    if (const auto dtype = options.Get("dtype"); dtype.IsString()) {
      load.dtype = findDType(dtype.As<Napi::String>())->type;
    }
    load.optimize = flag(options, "optimize");
    std::function<std::shared_ptr<ScriptModule>()> work;
    if (info[0].IsString()) {
      work = [path = info[0].As<Napi::String>().Utf8Value(), load] { return ScriptModule::loadFile(path, load); };
    } else {
      const auto array = info[0].As<Napi::TypedArray>();
      work = [bytes = std::string(bytesOf(array), array.ByteLength()), load]() mutable {
        return ScriptModule::loadBytes(std::move(bytes), load);
      };
    }
    return runAsync<std::shared_ptr<ScriptModule>>(
        info.Env(), std::move(work),
        [](Napi::Env env, const std::shared_ptr<ScriptModule>& loaded) -> Napi::Value {
          auto object = environment(env).scriptModuleClass.New({});
          Unwrap(object)->module_ = loaded;
          return object;
        },
        "ERR_MODEL_LOAD");
  });
}

// (inputs, { method, grad, cancellation }) → Promise<raw value>
Napi::Value ScriptModuleWrap::run(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto given = info[1].As<Napi::Object>();
    auto options = runOptions(given);
    options.hooks = module()->hooks();
    auto inputs = toInputs(info[0].As<Napi::Array>(), module()->schema(options.method), options.method);
    return runAsync<c10::IValue>(
        info.Env(),
        [module = module(), options = std::move(options), inputs = std::move(inputs)]() mutable {
          return module->run(std::move(inputs), options);
        },
        fromIValue, "ERR_MODEL_RUN", kindOf(given));
  });
}

// (inputs, options of both) → Promise<{ output, attentions }>
Napi::Value ScriptModuleWrap::capture(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto given = info[1].As<Napi::Object>();
    auto options = runOptions(given);
    options.hooks = module()->hooks();
    auto inputs = toInputs(info[0].As<Napi::Array>(), module()->schema(options.method), options.method);
    auto wanted = captureOptions(given);
    if (const auto function = given.Get("onAttention"); function.IsFunction()) {
      wanted.onAttention = handOver(function.As<Napi::Function>(), options.cancellation);
    }
    return runAsync<CaptureResult>(
        info.Env(),
        [module = module(), options = std::move(options), capture = std::move(wanted),
         inputs = std::move(inputs)]() mutable { return module->capture(std::move(inputs), options, capture); },
        [](Napi::Env env, const CaptureResult& result) -> Napi::Value {
          auto attentions = Napi::Array::New(env, result.attentions.size());
          for (uint32_t i = 0; i < result.attentions.size(); ++i) {
            attentions.Set(i, fromAttention(env, result.attentions[i]));
          }
          auto object = Napi::Object::New(env);
          object.Set("output", fromIValue(env, result.output));
          object.Set("attentions", attentions);
          if (result.capture->options().gradients) object.Set("gradients", GradientsWrap::wrap(env, result));
          return object;
        },
        "ERR_MODEL_RUN", kindOf(given));
  });
}

Napi::Value ScriptModuleWrap::modules(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto modules = module()->modules();
    auto list = Napi::Array::New(info.Env(), modules.size());
    for (uint32_t i = 0; i < modules.size(); ++i) {
      auto entry = Napi::Object::New(info.Env());
      entry.Set("name", modules[i].name);
      entry.Set("type", modules[i].type);
      list.Set(i, entry);
    }
    return list;
  });
}

Napi::Value ScriptModuleWrap::parameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto parameters = module()->parameters();
    auto list = Napi::Array::New(info.Env(), parameters.size());
    for (uint32_t i = 0; i < parameters.size(); ++i) {
      auto entry = Napi::Object::New(info.Env());
      entry.Set("name", parameters[i].name);
      entry.Set("tensor", TensorWrap::wrap(info.Env(), parameters[i].tensor));
      list.Set(i, entry);
    }
    return list;
  });
}

Napi::Value ScriptModuleWrap::methods(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto methods = module()->methods();
    auto list = Napi::Array::New(info.Env(), methods.size());
    for (uint32_t i = 0; i < methods.size(); ++i) list.Set(i, Napi::String::New(info.Env(), methods[i]));
    return list;
  });
}

Napi::Value ScriptModuleWrap::signature(const Napi::CallbackInfo& info) {
  return guarded(info.Env(),
                 [&] { return describeSchema(info.Env(), module()->schema(info[0].As<Napi::String>().Utf8Value())); });
}

Napi::Value ScriptModuleWrap::to(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return runAsync(
        info.Env(),
        [module = module(), device = parseDevice(info[0].As<Napi::String>())] { module->to(device); },
        [](Napi::Env env) { return env.Undefined(); }, "ERR_MODEL_RUN");
  });
}

// (path, NativeHook)
void ScriptModuleWrap::addHook(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { module()->addHook(info[0].As<Napi::String>(), HookWrap::of(info[1]).hook()); });
}

// (path, NativeHook). Works on a disposed model too: there is nothing left to remove it from.
void ScriptModuleWrap::removeHook(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const auto& hook = HookWrap::of(info[1]).hook();
    hook->remove();
    if (module_) module_->removeHook(info[0].As<Napi::String>(), hook);
  });
}

void ScriptModuleWrap::dispose(const Napi::CallbackInfo&) { module_.reset(); }

}  // namespace lta::node
