#include "node/nn_module_wrap.h"

#include "nn/module_call.h"
#include "nn/transformer.h"
#include "nn/transformer_model.h"
#include "node/async.h"
#include "node/cancellation_wrap.h"
#include "node/captures.h"
#include "node/environment.h"
#include "node/errors.h"
#include "node/hook_wrap.h"
#include "node/tensor_wrap.h"
#include "node/values.h"
#include "runtime/devices.h"

namespace lta::node {
namespace {

// The layer above has checked all options and filled in their defaults.
int64_t integer(const Napi::Object& options, const char* name) {
  return options.Get(name).As<Napi::Number>().Int64Value();
}

double number(const Napi::Object& options, const char* name) {
  return options.Get(name).As<Napi::Number>().DoubleValue();
}

nn::MultiheadAttentionOptions attentionOptions(const Napi::Object& options) {
  return {integer(options, "embedDim"), integer(options, "numHeads"), number(options, "dropout"),
          flag(options, "bias"),        flag(options, "addBiasKv"),   flag(options, "addZeroAttn"),
          integer(options, "kdim"),     integer(options, "vdim"),     flag(options, "batchFirst")};
}

nn::TransformerLayerOptions layerOptions(const Napi::Object& options) {
  const bool gelu = options.Get("activation").As<Napi::String>().Utf8Value() == "gelu";
  return {integer(options, "dModel"),
          integer(options, "nhead"),
          integer(options, "dimFeedforward"),
          number(options, "dropout"),
          gelu ? nn::Activation::Gelu : nn::Activation::Relu,
          number(options, "layerNormEps"),
          flag(options, "batchFirst"),
          flag(options, "normFirst"),
          flag(options, "bias")};
}

// Tensors and flags by name; what is undefined was left out.
nn::NamedArguments namedArguments(const Napi::Object& given) {
  nn::NamedArguments named;
  const auto names = given.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const auto name = names.Get(i).As<Napi::String>().Utf8Value();
    const auto value = given.Get(name);
    if (value.IsBoolean()) {
      named.flags[name] = value.As<Napi::Boolean>().Value();
    } else if (TensorWrap::is(value)) {
      named.tensors[name] = TensorWrap::of(value);
    }
  }
  return named;
}

std::vector<at::Tensor> tensors(Napi::Value value) {
  std::vector<at::Tensor> list;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(TensorWrap::of(array.Get(i)));
  return list;
}

std::vector<std::string> strings(Napi::Value value) {
  std::vector<std::string> list;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(array.Get(i).As<Napi::String>().Utf8Value());
  return list;
}

nn::ModelRun runOptions(const nn::Model& model, const Napi::Object& options) {
  return {strings(options.Get("inputNames")), flag(options, "grad"), CancellationWrap::of(options.Get("cancellation")),
          flag(options, "needWeights"), model.modes()};
}

template <typename Module>
std::shared_ptr<Module> as(const std::shared_ptr<nn::Model>& model) {
  return model ? std::dynamic_pointer_cast<Module>(model->module()) : nullptr;
}

}  // namespace

void NnModuleWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function = DefineClass(env, "NativeNnModule",
                                    {
                                        StaticMethod("create", &NnModuleWrap::create),
                                        InstanceMethod("run", &NnModuleWrap::run),
                                        InstanceMethod("capture", &NnModuleWrap::capture),
                                        InstanceMethod("modules", &NnModuleWrap::modules),
                                        InstanceMethod("parameters", &NnModuleWrap::parameters),
                                        InstanceMethod("load", &NnModuleWrap::load),
                                        InstanceMethod("to", &NnModuleWrap::to),
                                        InstanceMethod("isTraining", &NnModuleWrap::isTraining),
                                        InstanceMethod("train", &NnModuleWrap::train),
                                        InstanceMethod("needsWeights", &NnModuleWrap::needsWeights),
                                        InstanceMethod("setNeedWeights", &NnModuleWrap::setNeedWeights),
                                        InstanceMethod("addHook", &NnModuleWrap::addHook),
                                        InstanceMethod("removeHook", &NnModuleWrap::removeHook),
                                        InstanceMethod("settled", &NnModuleWrap::settled),
                                        InstanceMethod("dispose", &NnModuleWrap::dispose),
                                    });
  environment(env).nnModuleClass = Napi::Persistent(function);
  exports.Set("NativeNnModule", function);
}

const std::shared_ptr<nn::Model>& NnModuleWrap::model() const {
  if (!model_) throw Error("ERR_DISPOSED", "Expected a live module but this one was disposed");
  return model_;
}

std::shared_ptr<nn::Model> NnModuleWrap::modelOf(Napi::Value value) {
  return value.IsObject() ? Unwrap(value.As<Napi::Object>())->model() : nullptr;
}

// (class name, options, { layer, norm, customEncoder, customDecoder }) → NativeNnModule
Napi::Value NnModuleWrap::create(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto type = info[0].As<Napi::String>().Utf8Value();
    const auto options = info[1].As<Napi::Object>();
    const auto given = info[2].As<Napi::Object>();
    const auto layer = modelOf(given.Get("layer")), norm = modelOf(given.Get("norm"));
    const auto encoder = modelOf(given.Get("customEncoder")), decoder = modelOf(given.Get("customDecoder"));

    std::shared_ptr<torch::nn::Module> module;
    std::vector<nn::Model::Part> parts;
    if (type == "LayerNorm") {
      module = std::make_shared<nn::LayerNorm>(
          nn::LayerNormOptions{integer(options, "size"), number(options, "eps"), flag(options, "bias")});
    } else if (type == "MultiheadAttention") {
      module = nn::make<nn::MultiheadAttention>(attentionOptions(options));
    } else if (type == "TransformerEncoderLayer") {
      module = nn::make<nn::TransformerEncoderLayer>(layerOptions(options));
    } else if (type == "TransformerDecoderLayer") {
      module = nn::make<nn::TransformerDecoderLayer>(layerOptions(options));
    } else if (type == "TransformerEncoder") {
      module = std::make_shared<nn::TransformerEncoder>(*as<nn::TransformerEncoderLayer>(layer),
                                                        integer(options, "numLayers"), as<nn::LayerNorm>(norm),
                                                        flag(options, "enableNestedTensor"));
    } else if (type == "TransformerDecoder") {
      module = std::make_shared<nn::TransformerDecoder>(*as<nn::TransformerDecoderLayer>(layer),
                                                        integer(options, "numLayers"), as<nn::LayerNorm>(norm));
    } else if (type == "Transformer") {
      module = std::make_shared<nn::Transformer>(nn::TransformerOptions{
          layerOptions(options), integer(options, "numEncoderLayers"), integer(options, "numDecoderLayers"),
          as<nn::TransformerEncoder>(encoder), as<nn::TransformerDecoder>(decoder)});
    } else if (type == "TransformerModel") {
      module = std::make_shared<nn::TransformerModel>(nn::TransformerModelOptions{
          integer(options, "dInput"), integer(options, "dOutput"), layerOptions(options), integer(options, "nlayers")});
    } else {
      throw Error("ERR_INVALID_ARGUMENT", "Expected a class of nn but received '" + type + "'");
    }
    if (norm) parts.push_back({"norm", norm});
    if (encoder) parts.push_back({"encoder", encoder});
    if (decoder) parts.push_back({"decoder", decoder});
    auto object = environment(info.Env()).nnModuleClass.New({});
    auto* const wrap = Unwrap(object);
    wrap->model_ = std::make_shared<nn::Model>(std::move(module), std::move(parts));
    wrap->activity_ = wrap->model_->activity();
    return object;
  });
}

// (inputs, named, { grad, cancellation }) → Promise<raw value>
Napi::Value NnModuleWrap::run(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return runAsync<ReleasedValue>(
        info.Env(),
        [model = model(), inputs = tensors(info[0]), named = namedArguments(info[1].As<Napi::Object>()),
         options = runOptions(*model(), info[2].As<Napi::Object>())] { return model->run(inputs, named, options); },
        fromIValue, taskOf(info[2].As<Napi::Object>()));
  });
}

// (inputs, named, options of the run and the capture) → Promise<{ output, attentions }>
Napi::Value NnModuleWrap::capture(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto given = info[2].As<Napi::Object>();
    return runAsync<nn::ModelCapture>(
        info.Env(),
        [model = model(), inputs = tensors(info[0]), named = namedArguments(info[1].As<Napi::Object>()),
         options = runOptions(*model(), given),
         capture = captureOptions(given)] { return model->capture(inputs, named, options, capture); },
        [activity = model()->activity()](Napi::Env env, const nn::ModelCapture& result) -> Napi::Value {
          return fromCapture(env, result.output, result.attentions, result.capture, activity);
        },
        taskOf(given));
  });
}

Napi::Value NnModuleWrap::modules(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto modules = model()->module()->named_modules();
    auto list = Napi::Array::New(info.Env(), modules.size());
    uint32_t i = 0;
    for (const auto& module : modules) {
      auto entry = Napi::Object::New(info.Env());
      entry.Set("name", module.key());
      entry.Set("type", nn::typeName(*module.value()));
      list.Set(i++, entry);
    }
    return list;
  });
}

Napi::Value NnModuleWrap::parameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto parameters = model()->module()->named_parameters();
    auto list = Napi::Array::New(info.Env(), parameters.size());
    uint32_t i = 0;
    for (const auto& parameter : parameters) {
      auto entry = Napi::Object::New(info.Env());
      entry.Set("name", parameter.key());
      entry.Set("tensor", TensorWrap::wrap(info.Env(), parameter.value()));
      list.Set(i++, entry);
    }
    return list;
  });
}

// (names, tensors) → Promise<undefined>
Napi::Value NnModuleWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto names = strings(info[0]);
    auto list = tensors(info[1]);
    std::vector<std::pair<std::string, at::Tensor>> values;
    for (size_t i = 0; i < names.size(); ++i) values.emplace_back(std::move(names[i]), std::move(list[i]));
    return runAsync(
        info.Env(), [model = model(), values = std::move(values)] { model->load(values); },
        [](Napi::Env env) { return env.Undefined(); }, {.code = "ERR_MODEL_LOAD", .token = model()->beginActivity()});
  });
}

Napi::Value NnModuleWrap::to(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return runAsync(
        info.Env(),
        [model = model(), device = parseDevice(info[0].As<Napi::String>()), exchange = onEventLoop(info.Env())] {
          model->to(device, exchange);
        },
        [](Napi::Env env) { return env.Undefined(); }, {.code = "ERR_MODEL_RUN", .token = model()->beginActivity()});
  });
}

Napi::Value NnModuleWrap::isTraining(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Boolean::New(info.Env(), model()->trains()); });
}

void NnModuleWrap::train(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { model()->train(info[0].As<Napi::Boolean>().Value()); });
}

Napi::Value NnModuleWrap::needsWeights(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Boolean::New(info.Env(), model()->native().needsWeights()); });
}

void NnModuleWrap::setNeedWeights(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { model()->native().setNeedWeights(info[0].As<Napi::Boolean>().Value()); });
}

void NnModuleWrap::addHook(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { model()->addHook(info[0].As<Napi::String>().Utf8Value(), HookWrap::of(info[1]).hook()); });
}

void NnModuleWrap::removeHook(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    // Also one of a disposed module, which may live on as a part of another.
    const auto& hook = HookWrap::of(info[1]).hook();
    hook->remove();
    if (model_) model_->removeHook(info[0].As<Napi::String>().Utf8Value(), hook);
  });
}

Napi::Value NnModuleWrap::settled(const Napi::CallbackInfo& info) { return whenSettled(info.Env(), *activity_); }

TaskOptions NnModuleWrap::taskOf(const Napi::Object& options) const {
  return {"ERR_MODEL_RUN", kindOf(options), CancellationWrap::of(options.Get("cancellation")),
          model()->beginActivity()};
}

void NnModuleWrap::dispose(const Napi::CallbackInfo&) { model_.reset(); }

}  // namespace lta::node
