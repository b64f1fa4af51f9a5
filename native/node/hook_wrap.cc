#include "node/hook_wrap.h"

#include <ATen/ExpandUtils.h>
#include <ATen/core/jit_type.h>

#include <sstream>

#include "node/arguments.h"
#include "node/callback.h"
#include "node/environment.h"
#include "node/errors.h"
#include "node/tensor_wrap.h"
#include "node/values.h"

namespace lta::node {
namespace {

const char* nameOf(HookKind kind) {
  switch (kind) {
    case HookKind::Pre:
      return "forward pre-hook";
    case HookKind::Forward:
      return "forward hook";
    case HookKind::Backward:
      return "backward hook";
    case HookKind::Node:
      return "hook on the values of nodes";
  }
  return "hook";
}

Napi::Array toArray(Napi::Env env, const std::vector<c10::IValue>& values) {
  auto array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, fromIValue(env, values[i]));
  return array;
}

Napi::Array toArray(Napi::Env env, const std::vector<at::Tensor>& tensors) {
  return toArray(env, std::vector<c10::IValue>(tensors.begin(), tensors.end()));
}

// A JavaScript function as a hook (see Callback). If the module has another name in a run than where the hook was
// registered (as part of a larger model), that name is an additional last argument.
class JavaScriptHook final : public Hook {
 public:
  JavaScriptHook(HookKind kind, Napi::Function function, std::string module)
      : Hook(kind), callback_(function), module_(std::move(module)) {}

  std::optional<std::vector<c10::IValue>> onInputs(const ModuleCall& call, const std::vector<c10::IValue>& inputs,
                                                   const CancellationPtr& cancellation) override {
    return ask<std::vector<c10::IValue>>(
        call, cancellation, [&](Napi::Env env) { return std::vector<napi_value>{toArray(env, inputs)}; },
        [&](Napi::Value value) {
          const auto values = elements(value, call.inputTypes.size(), "inputs");
          std::vector<c10::IValue> replaced;
          for (size_t i = 0; i < values.size(); ++i) {
            replaced.push_back(toIValue(values[i], call.inputTypes[i], "input " + std::to_string(i)));
          }
          return replaced;
        });
  }

  std::optional<c10::IValue> onOutput(const ModuleCall& call, const std::vector<c10::IValue>& inputs,
                                      const c10::IValue& output, const CancellationPtr& cancellation) override {
    return ask<c10::IValue>(
        call, cancellation,
        [&](Napi::Env env) { return std::vector<napi_value>{toArray(env, inputs), fromIValue(env, output)}; },
        [&](Napi::Value value) { return toIValue(value, call.outputType, "the output"); });
  }

  std::optional<std::vector<at::Tensor>> onGradients(const ModuleCall& call, const std::vector<at::Tensor>& gradInputs,
                                                     const std::vector<at::Tensor>& gradOutputs) override {
    // A backward pass is a run of its own, whatever recorded the graph.
    auto* const run = Cancellation::current();
    return ask<std::vector<at::Tensor>>(
        call, run ? run->shared_from_this() : nullptr,
        [&](Napi::Env env) { return std::vector<napi_value>{toArray(env, gradInputs), toArray(env, gradOutputs)}; },
        [&](Napi::Value value) {
          static const auto kGradient = c10::OptionalType::create(c10::TensorType::get());
          std::vector<at::Tensor> replaced;
          for (const auto& each : elements(value, gradInputs.size(), "input gradients")) {
            const auto place = "input gradient " + std::to_string(replaced.size());
            const auto gradient = toIValue(each, kGradient, place);
            replaced.push_back(gradient.isTensor() ? gradient.toTensor() : at::Tensor());
            checkGradient(replaced.back(), gradInputs[replaced.size() - 1], place);
          }
          return replaced;
        });
  }

 private:
  // Replacements of several values: an array of as many, or the value itself if there is one.
  static std::vector<Napi::Value> elements(Napi::Value value, size_t count, const char* what) {
    std::vector<Napi::Value> list;
    if (value.IsArray()) {
      const auto array = value.As<Napi::Array>();
      for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(array.Get(i));
    } else {
      list.push_back(value);
    }
    if (list.size() != count) {
      throw Error("ERR_HOOK_FAILED", "expected an array of " + std::to_string(count) + " " + what + " but received " +
                                         std::to_string(list.size()));
    }
    return list;
  }

  // Checked here, since autograd's error comes later and names neither hook nor module. As there, a gradient that can
  // be summed to the shape is accepted.
  static void checkGradient(const at::Tensor& given, const at::Tensor& expected, const std::string& place) {
    if (!given.defined() || !expected.defined() || given.is_nested() || expected.is_nested()) return;
    if (at::is_expandable_to(expected.sizes(), given.sizes())) return;
    std::ostringstream text;
    text << "expected shape " << expected.sizes() << " for " << place << " but received " << given.sizes();
    throw Error("ERR_HOOK_FAILED", text.str());
  }

  template <typename Result, typename Arguments, typename Convert>
  std::optional<Result> ask(const ModuleCall& call, const CancellationPtr& cancellation, Arguments arguments,
                            Convert convert) {
    // Shared, since a cancelled wait returns while the function may still run and settle. The lambdas capture by
    // reference; they aren't called after such a return (see Outcome).
    const auto result = std::make_shared<std::optional<Result>>();
    const auto hookName = [&] { return std::string("The ") + nameOf(kind()) + " on '" + call.module + "'"; };
    const auto take = [&](Napi::Value value) {
      if (value.IsUndefined() || value.IsNull()) return;
      try {
        *result = convert(value);
      } catch (const Error& error) {
        throw Error("ERR_HOOK_FAILED", hookName() + " returned a value that can't be used: " + error.what());
      }
    };
    try {
      callback_.call(
          [&](Napi::Env env) {
            auto values = arguments(env);
            if (call.module != module_) values.push_back(Napi::String::New(env, call.module));
            return values;
          },
          take, cancellation);
    } catch (const Error& error) {
      if (!error.cause()) throw;
      throw Error(error.code(), hookName() + " failed").withCause(error.cause());
    }
    return *result;
  }

  Callback callback_;
  const std::string module_;
};

}  // namespace

void HookWrap::define(Napi::Env env, Napi::Object exports) {
  defineClass(env, exports,
              {
                  InstanceMethod("calls", &HookWrap::calls),
                  InstanceMethod("reached", &HookWrap::reached),
                  InstanceMethod("record", &HookWrap::record),
              });
}

HookWrap::HookWrap(const Napi::CallbackInfo& info) : ObjectWrap<HookWrap, true>(info) {
  guarded(info.Env(), [&] {
    static constexpr HookKind kKinds[] = {HookKind::Pre, HookKind::Forward, HookKind::Backward, HookKind::Node};
    const auto kind = kKinds[choiceArgument(info[0], "kind", {"pre", "forward", "backward", "node"})];
    const auto path = stringArgument(info[2], "path");
    if (info[1].IsUndefined()) {
      hook_ = std::make_shared<Recorder>(kind);
    } else {
      hook_ = std::make_shared<JavaScriptHook>(kind, functionArgument(info[1], "callback"), path);
    }
  });
}

Napi::Value HookWrap::calls(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(hook_->calls()));
}

Napi::Value HookWrap::reached(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), hook_->reached());
}

// → { input, output } of the last call, null before the first.
Napi::Value HookWrap::record(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto* recorder = dynamic_cast<Recorder*>(hook_.get());
    const auto record = recorder ? recorder->last() : std::nullopt;
    if (!record) return info.Env().Null();
    auto object = Napi::Object::New(info.Env());
    object.Set("input", toArray(info.Env(), record->input));
    if (record->output) object.Set("output", toArray(info.Env(), *record->output));
    return object;
  });
}

}  // namespace lta::node
