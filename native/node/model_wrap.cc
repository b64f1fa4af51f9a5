#include "node/model_wrap.h"

#include <utility>
#include <vector>

#include "node/arguments.h"
#include "node/blocking.h"
#include "node/cancellation_wrap.h"
#include "node/captures.h"
#include "node/errors.h"
#include "node/hook_wrap.h"
#include "node/tensor_wrap.h"
#include "node/values.h"
#include "runtime/devices.h"

namespace lta::node {
namespace {

engine::RunOptions runOptions(const engine::Model& model, const Napi::Object& options) {
  engine::RunOptions run;
  if (const auto method = option(options, "method")) run.method = stringArgument(*method, "method");
  run.grad = flag(options, "grad");
  run.needWeights = flag(options, "needWeights");
  run.cancellation = CancellationWrap::of(options.Get("cancellation"));
  run.snapshot = model.snapshot();
  return run;
}

// Converts by the method's schema; without one, inputs are tensors, and named ones tensors or flags (undefined:
// omitted), which stand among `options`.
engine::Inputs inputsOf(const engine::Model& model, Napi::Value given, Napi::Value namedBy, const std::string& method) {
  const auto array = arrayArgument(given, "inputs");
  engine::Inputs inputs;
  if (const auto* schema = model.schema(method)) {
    inputs.positional = toInputs(array, *schema, method);
    return inputs;
  }
  const auto options = objectArgument(namedBy, "the options of run");
  inputs.names = stringsArgument(options.Get("inputNames"), "inputNames");
  if (inputs.names.size() != array.Length()) {
    mismatch("as many inputs as inputNames has (" + std::to_string(inputs.names.size()) + ")", "inputs", given);
  }
  for (uint32_t i = 0; i < array.Length(); ++i) {
    inputs.positional.emplace_back(tensorArgument(array.Get(i), inputs.names[i]));
  }
  const auto named = objectArgument(options.Get("named"), "named");
  const auto names = named.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const auto name = stringArgument(names.Get(i), "a name");
    const Napi::Value value = named.Get(name);
    if (value.IsUndefined()) continue;
    if (value.IsBoolean()) {
      inputs.named[name] = value.As<Napi::Boolean>().Value();
    } else {
      inputs.named[name] = tensorArgument(value, name);
    }
  }
  return inputs;
}

TaskOptions taskOf(engine::Model& model, Executor::Kind kind, const CancellationPtr& cancellation) {
  return {"ERR_MODEL_RUN", kind, cancellation, model.beginActivity()};
}

// What a run without a capture is called with. By position, since reading an object takes a tenth of what a small
// model's run does: inputs, options of models without schemas, method, grad, insideHook, cancellation.
struct Request {
  Request(engine::Model& model, const Napi::CallbackInfo& info) {
    if (!info[2].IsUndefined()) options.method = stringArgument(info[2], "method");
    options.grad = !info[3].IsUndefined() && booleanArgument(info[3], "grad");
    const bool insideHook = !info[4].IsUndefined() && booleanArgument(info[4], "insideHook");
    options.cancellation = CancellationWrap::of(info[5]);
    options.snapshot = model.snapshot();
    inputs = inputsOf(model, info[0], info[1], options.method);
    task = taskOf(model, insideHook ? Executor::Kind::Urgent : Executor::Kind::Run, options.cancellation);
  }

  engine::RunOptions options;
  engine::Inputs inputs;
  TaskOptions task{};
};

template <typename List, typename Convert>
Napi::Array toArray(Napi::Env env, const List& list, Convert convert) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) array.Set(i, convert(list[i]));
  return array;
}

Napi::Array fromTensors(Napi::Env env, const std::vector<engine::NamedTensor>& tensors) {
  return toArray(env, tensors, [env](const engine::NamedTensor& each) {
    auto entry = Napi::Object::New(env);
    entry.Set("name", each.name);
    entry.Set("tensor", TensorWrap::wrap(env, each.tensor));
    return entry;
  });
}

}  // namespace

void ModelWrap::define(Napi::Env env, Napi::Object exports) {
  defineClass(env, exports,
              {
                  InstanceMethod("run", &ModelWrap::run),
                  InstanceMethod("runBlocking", &ModelWrap::runBlocking),
                  InstanceMethod("capture", &ModelWrap::capture),
                  InstanceMethod("captureTensors", &ModelWrap::captureTensors),
                  InstanceMethod("modules", &ModelWrap::modules),
                  InstanceMethod("parameters", &ModelWrap::parameters),
                  InstanceMethod("stateDict", &ModelWrap::stateDict),
                  InstanceMethod("methods", &ModelWrap::methods),
                  InstanceMethod("signature", &ModelWrap::signature),
                  InstanceMethod("to", &ModelWrap::to),
                  InstanceMethod("addHook", &ModelWrap::addHook),
                  InstanceMethod("removeHook", &ModelWrap::removeHook),
                  InstanceMethod("settled", &ModelWrap::settled),
                  InstanceMethod("dispose", &ModelWrap::dispose),
              });
}

Napi::Object ModelWrap::wrap(Napi::Env env, std::shared_ptr<engine::Model> model) {
  auto object = make(env);
  auto* const wrap = Unwrap(object);
  wrap->kind_ = model->kind();
  wrap->activity_ = model->activity();
  wrap->model_ = std::move(model);
  return object;
}

const std::shared_ptr<engine::Model>& ModelWrap::model() const {
  if (!model_) throw Error("ERR_DISPOSED", std::string("Expected a live ") + kind_ + " but this one was disposed");
  return model_;
}

const std::shared_ptr<engine::Model>& ModelWrap::of(Napi::Value value, const std::string& what) {
  return get(value, what).model();
}

namespace {

// Runs work(model, inputs, options of the run) as a task of a model, with inputs and options that JavaScript gave.
template <typename Result, typename Work, typename Complete>
Napi::Value runTask(const std::shared_ptr<engine::Model>& model, Napi::Value givenInputs, const Napi::Object& given,
                    const std::shared_ptr<ShortRuns>& shortRuns, Work work, Complete complete) {
  auto options = runOptions(*model, given);
  auto inputs = inputsOf(*model, givenInputs, given, options.method);
  auto task = taskOf(*model, kindOf(given), options.cancellation);
  task.shortRuns = shortRuns;
  return runAsync<Result>(
      given.Env(),
      [model, work = std::move(work), options = std::move(options), inputs = std::move(inputs)]() mutable {
        return work(*model, std::move(inputs), options);
      },
      std::move(complete), std::move(task));
}

}  // namespace

// (see Request) → Promise<raw value>
Napi::Value ModelWrap::run(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Request request(*model(), info);
    request.task.shortRuns = shortRuns_;
    return runAsync<ReleasedValue>(
        info.Env(),
        [model = model(), inputs = std::move(request.inputs), options = std::move(request.options)]() mutable {
          return model->run(std::move(inputs), options);
        },
        fromIValue, std::move(request.task));
  });
}

// The same on the calling thread → raw value
Napi::Value ModelWrap::runBlocking(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto running = model();  // a hook may dispose of it
    Request request(*running, info);
    request.options.blocking = true;
    ReleasedValue output;
    const auto run = [&] { output = running->run(std::move(request.inputs), request.options); };
    guarded(info.Env(), [&] { node::runBlocking(run, std::move(request.task)); }, "ERR_MODEL_RUN");
    return fromIValue(info.Env(), output);
  });
}

// (inputs, options of the run and the capture) → Promise<{ output, attentions, … }>
Napi::Value ModelWrap::capture(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto given = objectArgument(info[1], "the options of capture");
    return runTask<engine::CaptureResult>(
        model(), info[0], given, shortCaptures_,
        [capture = captureOptions(given)](engine::Model& model, engine::Inputs inputs,
                                          const engine::RunOptions& options) {
          return model.capture(std::move(inputs), options, capture);
        },
        [activity = activity_](Napi::Env env, const engine::CaptureResult& result) -> Napi::Value {
          return fromCapture(env, result, activity);
        });
  });
}

// (inputs, options of the run and { modules, operator, occurrence, … }) → Promise<{ output, tensors }>
Napi::Value ModelWrap::captureTensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto given = objectArgument(info[1], "the options of captureTensors");
    return runTask<engine::TensorCaptureResult>(
        model(), info[0], given, shortCaptures_,
        [capture = tensorCaptureOptions(given)](engine::Model& model, engine::Inputs inputs,
                                                const engine::RunOptions& options) {
          return model.captureTensors(std::move(inputs), options, capture);
        },
        fromTensorCapture);
  });
}

Napi::Value ModelWrap::modules(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return toArray(info.Env(), model()->modules(), [&](const engine::ModuleInfo& module) {
      auto entry = Napi::Object::New(info.Env());
      entry.Set("name", module.name);
      entry.Set("type", module.type);
      return entry;
    });
  });
}

Napi::Value ModelWrap::parameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return fromTensors(info.Env(), model()->parameters()); });
}

Napi::Value ModelWrap::stateDict(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return fromTensors(info.Env(), model()->stateDict()); });
}

Napi::Value ModelWrap::methods(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return toArray(info.Env(), model()->methods(),
                   [&](const std::string& name) { return Napi::String::New(info.Env(), name); });
  });
}

// (method) → its signature; null for a model without schemas
Napi::Value ModelWrap::signature(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto* schema = model()->schema(stringArgument(info[0], "method"));
    return schema ? describeSchema(info.Env(), *schema) : info.Env().Null();
  });
}

Napi::Value ModelWrap::to(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return runAsync(
        info.Env(),
        [model = model(), device = parseDevice(stringArgument(info[0], "device")), exchange = onEventLoop(info.Env())] {
          model->to(device, exchange);
        },
        [](Napi::Env env) { return env.Undefined(); }, {.code = "ERR_MODEL_RUN", .token = model()->beginActivity()});
  });
}

// (path, NativeHook)
void ModelWrap::addHook(const Napi::CallbackInfo& info) {
  guarded(info.Env(),
          [&] { model()->addHook(stringArgument(info[0], "path"), HookWrap::get(info[1], "hook").hook()); });
}

// (path, NativeHook). Works on a disposed model, too, which may be part of another.
void ModelWrap::removeHook(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const auto path = stringArgument(info[0], "path");
    const auto& hook = HookWrap::get(info[1], "hook").hook();
    hook->remove();
    if (model_) model_->removeHook(path, hook);
  });
}

Napi::Value ModelWrap::settled(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return whenSettled(info.Env(), *activity_); });
}

void ModelWrap::dispose(const Napi::CallbackInfo&) { model_.reset(); }

}  // namespace lta::node
