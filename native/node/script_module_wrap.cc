#include "node/script_module_wrap.h"

#include "node/async.h"
#include "node/cancellation_wrap.h"
#include "node/captures.h"
#include "node/dtypes.h"
#include "node/environment.h"
#include "node/errors.h"
#include "node/hook_wrap.h"
#include "node/tensor_wrap.h"
#include "node/values.h"
#include "runtime/devices.h"

namespace lta::node {
namespace {

RunOptions runOptions(const Napi::Object& options) {
  RunOptions run;
  if (const auto method = options.Get("method"); method.IsString()) run.method = method.As<Napi::String>();
  run.grad = flag(options, "grad");
  run.cancellation = CancellationWrap::of(options.Get("cancellation"));
  return run;
}

Napi::Value fromParameters(Napi::Env env, const std::vector<ParameterInfo>& parameters) {
  auto list = Napi::Array::New(env, parameters.size());
  for (uint32_t i = 0; i < parameters.size(); ++i) {
    auto entry = Napi::Object::New(env);
    entry.Set("name", parameters[i].name);
    entry.Set("tensor", TensorWrap::wrap(env, parameters[i].tensor));
    list.Set(i, entry);
  }
  return list;
}

}  // namespace

void ScriptModuleWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function = DefineClass(env, "NativeScriptModule",
                                    {
                                        StaticMethod("load", &ScriptModuleWrap::load),
                                        InstanceMethod("run", &ScriptModuleWrap::run),
                                        InstanceMethod("capture", &ScriptModuleWrap::capture),
                                        InstanceMethod("modules", &ScriptModuleWrap::modules),
                                        InstanceMethod("parameters", &ScriptModuleWrap::parameters),
                                        InstanceMethod("stateDict", &ScriptModuleWrap::stateDict),
                                        InstanceMethod("methods", &ScriptModuleWrap::methods),
                                        InstanceMethod("signature", &ScriptModuleWrap::signature),
                                        InstanceMethod("to", &ScriptModuleWrap::to),
                                        InstanceMethod("addHook", &ScriptModuleWrap::addHook),
                                        InstanceMethod("removeHook", &ScriptModuleWrap::removeHook),
                                        InstanceMethod("settled", &ScriptModuleWrap::settled),
                                        InstanceMethod("dispose", &ScriptModuleWrap::dispose),
                                    });
  environment(env).scriptModuleClass = Napi::Persistent(function);
  exports.Set("NativeScriptModule", function);
}

const std::shared_ptr<ScriptModule>& ScriptModuleWrap::module() const {
  if (!module_) throw Error("ERR_DISPOSED", "Expected a live ScriptModule but this one was disposed");
  return module_;
}

// (path or bytes, { device, dtype, optimize, fuse, untrusted, verify, cancellation }) → Promise<NativeScriptModule>
Napi::Value ScriptModuleWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto options = info[1].As<Napi::Object>();
    LoadOptions load;
    load.device = parseDevice(options.Get("device").As<Napi::String>());
    if (const auto dtype = options.Get("dtype"); dtype.IsString()) {
      load.dtype = findDType(dtype.As<Napi::String>())->type;
    }
    load.optimize = flag(options, "optimize");
    load.untrusted = flag(options, "untrusted");
    load.verify = flag(options, "verify");
    if (const auto fuse = options.Get("fuse"); fuse.IsBoolean()) load.fuse = fuse.As<Napi::Boolean>().Value();
    std::function<std::shared_ptr<ScriptModule>()> work;
    if (info[0].IsString()) {
      work = [path = info[0].As<Napi::String>().Utf8Value(), load] { return ScriptModule::loadFile(path, load); };
    } else {
      work = [bytes = std::string(bytesOf(info[0])), load]() mutable {
        return ScriptModule::loadBytes(std::move(bytes), load);
      };
    }
    return runAsync<std::shared_ptr<ScriptModule>>(
        info.Env(), std::move(work),
        [](Napi::Env env, const std::shared_ptr<ScriptModule>& loaded) -> Napi::Value {
          auto object = environment(env).scriptModuleClass.New({});
          auto* const wrap = Unwrap(object);
          wrap->module_ = loaded;
          wrap->activity_ = loaded->activity();
          return object;
        },
        {.code = "ERR_MODEL_LOAD", .cancellation = CancellationWrap::of(options.Get("cancellation")), .watched = true});
  });
}

// (inputs, { method, grad, cancellation }) → Promise<raw value>
Napi::Value ScriptModuleWrap::run(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto given = info[1].As<Napi::Object>();
    auto options = runOptions(given);
    options.hooks = module()->hooks();
    auto inputs = toInputs(info[0].As<Napi::Array>(), module()->schema(options.method), options.method);
    return runAsync<ReleasedValue>(
        info.Env(),
        [module = module(), options = std::move(options), inputs = std::move(inputs)]() mutable {
          return module->run(std::move(inputs), options);
        },
        fromIValue, taskOf(given));
  });
}

// (inputs, options of both) → Promise<{ output, attentions }>
Napi::Value ScriptModuleWrap::capture(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto given = info[1].As<Napi::Object>();
    auto options = runOptions(given);
    options.hooks = module()->hooks();
    auto inputs = toInputs(info[0].As<Napi::Array>(), module()->schema(options.method), options.method);
    return runAsync<CaptureResult>(
        info.Env(),
        [module = module(), options = std::move(options), capture = captureOptions(given),
         inputs = std::move(inputs)]() mutable { return module->capture(std::move(inputs), options, capture); },
        [activity = activity_](Napi::Env env, const CaptureResult& result) -> Napi::Value {
          return fromCapture(env, result.output, result.attentions, result.capture, activity);
        },
        taskOf(given));
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
  return guarded(info.Env(), [&] { return fromParameters(info.Env(), module()->parameters()); });
}

Napi::Value ScriptModuleWrap::stateDict(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return fromParameters(info.Env(), module()->stateDict()); });
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
        [module = module(), device = parseDevice(info[0].As<Napi::String>()), exchange = onEventLoop(info.Env())] {
          module->to(device, exchange);
        },
        [](Napi::Env env) { return env.Undefined(); }, {.code = "ERR_MODEL_RUN", .token = beginActivity()});
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

// Also keeps the model: a task that it forked and nobody awaits goes on in code that belongs to it.
std::shared_ptr<const void> ScriptModuleWrap::beginActivity() const {
  using Both = std::pair<std::shared_ptr<const void>, std::shared_ptr<ScriptModule>>;
  return std::make_shared<Both>(activity_->begin(), module());
}

Napi::Value ScriptModuleWrap::settled(const Napi::CallbackInfo& info) { return whenSettled(info.Env(), *activity_); }

TaskOptions ScriptModuleWrap::taskOf(const Napi::Object& options) const {
  return {"ERR_MODEL_RUN", kindOf(options), CancellationWrap::of(options.Get("cancellation")), beginActivity()};
}

void ScriptModuleWrap::dispose(const Napi::CallbackInfo&) { module_.reset(); }

}  // namespace lta::node
