#include "node/nn_functions.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/model.h"
#include "nn/transformer.h"
#include "nn/transformer_model.h"
#include "node/arguments.h"
#include "node/async.h"
#include "node/errors.h"
#include "node/model_wrap.h"

namespace lta::node {
namespace {

int64_t size(const Napi::Object& options, const char* name) { return integerArgument(options.Get(name), name, 1); }

double number(const Napi::Object& options, const char* name) { return numberArgument(options.Get(name), name); }

nn::Activation activation(const Napi::Object& options) {
  const auto index = choiceArgument(options.Get("activation"), "activation", {"relu", "gelu"});
  return index == 1 ? nn::Activation::Gelu : nn::Activation::Relu;
}

// The heads divide a dimension equally.
void checkHeads(int64_t dimension, int64_t heads) {
  if (dimension % heads == 0) return;
  throw Error("ERR_INVALID_ARGUMENT", "Expected a dimension that is a multiple of the number of heads (" +
                                          std::to_string(heads) + ") but received " + std::to_string(dimension));
}

nn::MultiheadAttentionOptions attentionOptions(const Napi::Object& options) {
  checkHeads(size(options, "embedDim"), size(options, "numHeads"));
  return {size(options, "embedDim"), size(options, "numHeads"),  number(options, "dropout"),
          flag(options, "bias"),     flag(options, "addBiasKv"), flag(options, "addZeroAttn"),
          size(options, "kdim"),     size(options, "vdim"),      flag(options, "batchFirst")};
}

nn::TransformerLayerOptions layerOptions(const Napi::Object& options) {
  checkHeads(size(options, "dModel"), size(options, "nhead"));
  return {size(options, "dModel"),     size(options, "nhead"),     size(options, "dimFeedforward"),
          number(options, "dropout"),  activation(options),        number(options, "layerNormEps"),
          flag(options, "batchFirst"), flag(options, "normFirst"), flag(options, "bias")};
}

std::shared_ptr<nn::Model> modelOf(Napi::Value value, const std::string& what) {
  auto model = std::dynamic_pointer_cast<nn::Model>(ModelWrap::of(value, what));
  if (!model)
    throw Error("ERR_INVALID_ARGUMENT", "Expected a module of nn for " + what + " but received another model");
  return model;
}

// The submodules that a module is made of, by their names in lib/.
class Parts {
 public:
  explicit Parts(Napi::Object given) : given_(given) {}

  std::shared_ptr<nn::Model> model(const char* name) const {
    const auto part = option(given_, name);
    return part ? modelOf(*part, name) : nullptr;
  }

  // A submodule of the class `Module`; null if omitted.
  template <typename Module>
  std::shared_ptr<Module> optional(const char* name) const {
    const auto part = model(name);
    if (!part) return nullptr;
    auto module = std::dynamic_pointer_cast<Module>(part->module());
    if (!module) mismatch("a module of another class", name, given_.Get(name));
    return module;
  }

  template <typename Module>
  std::shared_ptr<Module> required(const char* name) const {
    auto module = optional<Module>(name);
    if (!module) mismatch("a module", name, given_.Get(name));
    return module;
  }

 private:
  const Napi::Object given_;
};

struct Kind {
  const char* name;
  std::shared_ptr<torch::nn::Module> (*make)(const Napi::Object& options, const Parts& parts);
};

constexpr Kind kKinds[] = {
    {"LayerNorm",
     [](const Napi::Object& options, const Parts&) -> std::shared_ptr<torch::nn::Module> {
       return std::make_shared<nn::LayerNorm>(
           nn::LayerNormOptions{size(options, "size"), number(options, "eps"), flag(options, "bias")});
     }},
    {"MultiheadAttention",
     [](const Napi::Object& options, const Parts&) -> std::shared_ptr<torch::nn::Module> {
       return nn::make<nn::MultiheadAttention>(attentionOptions(options));
     }},
    {"TransformerEncoderLayer",
     [](const Napi::Object& options, const Parts&) -> std::shared_ptr<torch::nn::Module> {
       return nn::make<nn::TransformerEncoderLayer>(layerOptions(options));
     }},
    {"TransformerDecoderLayer",
     [](const Napi::Object& options, const Parts&) -> std::shared_ptr<torch::nn::Module> {
       return nn::make<nn::TransformerDecoderLayer>(layerOptions(options));
     }},
    {"TransformerEncoder",
     [](const Napi::Object& options, const Parts& parts) -> std::shared_ptr<torch::nn::Module> {
       return std::make_shared<nn::TransformerEncoder>(
           *parts.required<nn::TransformerEncoderLayer>("layer"), size(options, "numLayers"),
           parts.optional<nn::LayerNorm>("norm"), flag(options, "enableNestedTensor"));
     }},
    {"TransformerDecoder",
     [](const Napi::Object& options, const Parts& parts) -> std::shared_ptr<torch::nn::Module> {
       return std::make_shared<nn::TransformerDecoder>(*parts.required<nn::TransformerDecoderLayer>("layer"),
                                                       size(options, "numLayers"),
                                                       parts.optional<nn::LayerNorm>("norm"));
     }},
    {"Transformer",
     [](const Napi::Object& options, const Parts& parts) -> std::shared_ptr<torch::nn::Module> {
       return std::make_shared<nn::Transformer>(nn::TransformerOptions{
           layerOptions(options), size(options, "numEncoderLayers"), size(options, "numDecoderLayers"),
           parts.optional<nn::TransformerEncoder>("customEncoder"),
           parts.optional<nn::TransformerDecoder>("customDecoder")});
     }},
    {"TransformerModel",
     [](const Napi::Object& options, const Parts&) -> std::shared_ptr<torch::nn::Module> {
       return std::make_shared<nn::TransformerModel>(nn::TransformerModelOptions{
           size(options, "dInput"), size(options, "dOutput"), layerOptions(options), size(options, "nlayers")});
     }},
};

// (class name, options, { layer, norm, customEncoder, customDecoder }) → NativeModel
Napi::Value create(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto type = stringArgument(info[0], "the class of a module");
    const auto options = objectArgument(info[1], "the options of " + type);
    const Parts parts(objectArgument(info[2], "the parts of " + type));
    for (const auto& kind : kKinds) {
      if (type != kind.name) continue;
      auto module = kind.make(options, parts);
      // A layer is cloned; all other submodules are shared.
      std::vector<engine::Model::Part> shared;
      const auto share = [&](const char* given, const char* name) {
        if (auto part = parts.model(given)) shared.push_back({name, std::move(part)});
      };
      share("norm", "norm");
      share("customEncoder", "encoder");
      share("customDecoder", "decoder");
      return ModelWrap::wrap(info.Env(), std::make_shared<nn::Model>(std::move(module), std::move(shared)));
    }
    throw Error("ERR_INVALID_ARGUMENT", "Expected a class of nn but received '" + type + "'");
  });
}

// (model, names, tensors) → Promise<undefined>
Napi::Value load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto model = modelOf(info[0], "model");
    auto names = stringsArgument(info[1], "names");
    auto tensors = tensorsArgument(info[2], "tensors");
    if (names.size() != tensors.size()) mismatch("as many tensors as names", "tensors", info[2]);
    std::vector<std::pair<std::string, at::Tensor>> values;
    for (size_t i = 0; i < names.size(); ++i) values.emplace_back(std::move(names[i]), std::move(tensors[i]));
    return runAsync(
        info.Env(), [model, values = std::move(values)] { model->load(values); },
        [](Napi::Env env) { return env.Undefined(); }, {.code = "ERR_MODEL_LOAD", .token = model->beginActivity()});
  });
}

// (model) → boolean
Napi::Value isTraining(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Boolean::New(info.Env(), modelOf(info[0], "model")->trains()); });
}

// (model, boolean)
Napi::Value train(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    modelOf(info[0], "model")->train(booleanArgument(info[1], "mode"));
    return info.Env().Undefined();
  });
}

// (model) → boolean
Napi::Value needsWeights(const Napi::CallbackInfo& info) {
  return guarded(info.Env(),
                 [&] { return Napi::Boolean::New(info.Env(), modelOf(info[0], "model")->native().needsWeights()); });
}

// (model, boolean)
Napi::Value setNeedWeights(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    modelOf(info[0], "model")->native().setNeedWeights(booleanArgument(info[1], "need"));
    return info.Env().Undefined();
  });
}

}  // namespace

void defineNnFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("createNnModule", Napi::Function::New(env, create));
  exports.Set("loadNnParameters", Napi::Function::New(env, load));
  exports.Set("isTraining", Napi::Function::New(env, isTraining));
  exports.Set("train", Napi::Function::New(env, train));
  exports.Set("needsWeights", Napi::Function::New(env, needsWeights));
  exports.Set("setNeedWeights", Napi::Function::New(env, setNeedWeights));
}

}  // namespace lta::node
