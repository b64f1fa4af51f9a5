#include "node/exported_functions.h"

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "exported/load.h"
#include "node/arguments.h"
#include "node/async.h"
#include "node/cancellation_wrap.h"
#include "node/dtypes.h"
#include "node/errors.h"
#include "node/model_wrap.h"
#include "node/values.h"
#include "runtime/devices.h"

namespace lta::node {
namespace {

using Loaded = std::shared_ptr<exported::ExportedProgram>;

// (path or bytes, { device, dtype, untrusted, verify, cancellation }) → Promise<NativeModel>
Napi::Value loadExportedProgram(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto options = objectArgument(info[1], "the options of load");
    exported::LoadOptions load;
    load.program.device = parseDevice(stringArgument(options.Get("device"), "device"));
    if (const auto dtype = option(options, "dtype")) load.program.dtype = dtypeArgument(*dtype).type;
    load.untrusted = flag(options, "untrusted");
    load.verify = flag(options, "verify");
    std::function<Loaded()> work;
    if (info[0].IsString()) {
      work = [path = stringArgument(info[0], "source"), load] { return exported::loadFile(path, load); };
    } else {
      work = [bytes = archive::Mapping::copyOf(bytesOf(info[0])), load] { return exported::loadBytes(bytes, load); };
    }
    return runAsync<Loaded>(
        info.Env(), std::move(work),
        [](Napi::Env env, const Loaded& loaded) -> Napi::Value { return ModelWrap::wrap(env, loaded); },
        {.code = "ERR_MODEL_LOAD", .cancellation = CancellationWrap::of(options.Get("cancellation")), .watched = true});
  });
}

Napi::Array fromStrings(Napi::Env env, const std::vector<std::string>& strings) {
  auto array = Napi::Array::New(env, strings.size());
  for (uint32_t i = 0; i < strings.size(); ++i) array.Set(i, Napi::String::New(env, strings[i]));
  return array;
}

const char* nameOf(exported::Pytree::Kind kind) {
  switch (kind) {
    case exported::Pytree::Kind::Leaf:
      return "leaf";
    case exported::Pytree::Kind::Sequence:
      return "sequence";
    case exported::Pytree::Kind::NamedTuple:
      return "namedtuple";
    case exported::Pytree::Kind::Mapping:
      return "mapping";
    case exported::Pytree::Kind::Object:
      return "object";
  }
  return "leaf";
}

Napi::Object fromPytree(Napi::Env env, const exported::Pytree& tree) {
  auto object = Napi::Object::New(env);
  object.Set("kind", nameOf(tree.kind));
  object.Set("type", tree.type);
  object.Set("names", fromStrings(env, tree.names));
  auto children = Napi::Array::New(env, tree.children.size());
  for (uint32_t i = 0; i < tree.children.size(); ++i) {
    const Napi::HandleScope scope(env);
    children.Set(i, fromPytree(env, tree.children[i]));
  }
  object.Set("children", children);
  return object;
}

Napi::Value fromSize(Napi::Env env, const exported::Size& size) {
  if (size.number) return Napi::Number::New(env, static_cast<double>(*size.number));
  return Napi::String::New(env, size.text());
}

// `type` as signatures of TorchScript name it.
Napi::Object fromLeaf(Napi::Env env, const exported::Leaf& leaf) {
  using Kind = exported::Leaf::Kind;
  auto object = Napi::Object::New(env);
  object.Set("name", leaf.name);
  auto shape = Napi::Array::New(env, leaf.sizes.size());
  for (uint32_t i = 0; i < leaf.sizes.size(); ++i) shape.Set(i, fromSize(env, leaf.sizes[i]));
  object.Set("shape", shape);
  switch (leaf.kind) {
    case Kind::Tensor:
      object.Set("type", "Tensor");
      if (leaf.dtype) object.Set("dtype", lta::node::nameOf(*leaf.dtype));
      break;
    case Kind::Integer:
      object.Set("type", "int");
      object.Set("value", fromSize(env, leaf.value));
      break;
    case Kind::Float:
      object.Set("type", "float");
      break;
    case Kind::Boolean:
      object.Set("type", "bool");
      break;
    case Kind::Constant:
      object.Set("type", leaf.constant.type()->annotation_str());
      object.Set("constant", fromIValue(env, leaf.constant));
      break;
  }
  return object;
}

Napi::Array fromLeaves(Napi::Env env, const std::vector<exported::Leaf>& leaves) {
  auto array = Napi::Array::New(env, leaves.size());
  for (uint32_t i = 0; i < leaves.size(); ++i) array.Set(i, fromLeaf(env, leaves[i]));
  return array;
}

double bound(int64_t value) {
  return value == std::numeric_limits<int64_t>::max() ? std::numeric_limits<double>::infinity()
                                                      : static_cast<double>(value);
}

// (model) → { inputs, outputs, inputTree, outputTree, argumentNames, symbols }
Napi::Value describeExportedProgram(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto model = std::dynamic_pointer_cast<exported::ExportedProgram>(ModelWrap::of(info[0], "model"));
    if (!model) mismatch("an exported program", "model", info[0]);
    const auto& signature = model->signature();
    const auto env = info.Env();
    auto described = Napi::Object::New(env);
    described.Set("inputs", fromLeaves(env, signature.inputs()));
    described.Set("outputs", fromLeaves(env, signature.outputs()));
    described.Set("inputTree", fromPytree(env, signature.inputTree()));
    described.Set("outputTree", fromPytree(env, signature.outputTree()));
    described.Set("argumentNames", fromStrings(env, signature.argumentNames()));
    auto symbols = Napi::Array::New(env);
    for (const auto& [name, range] : signature.symbols()) {
      auto symbol = Napi::Object::New(env);
      symbol.Set("name", name);
      symbol.Set("min", bound(range.least));
      symbol.Set("max", bound(range.most));
      symbols.Set(symbols.Length(), symbol);
    }
    described.Set("symbols", symbols);
    return described;
  });
}

}  // namespace

void defineExportedFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("loadExportedProgram", Napi::Function::New(env, loadExportedProgram));
  exports.Set("describeExportedProgram", Napi::Function::New(env, describeExportedProgram));
}

}  // namespace lta::node
