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

// (path or bytes, { device, dtype, optimize, untrusted, verify, cancellation }) → Promise<NativeModel>
Napi::Value loadExportedProgram(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto options = objectArgument(info[1], "the options of load");
    exported::LoadOptions load;
    load.program.device = parseDevice(stringArgument(options.Get("device"), "device"));
    if (const auto dtype = option(options, "dtype")) load.program.dtype = dtypeArgument(*dtype).type;
    load.program.optimize = flag(options, "optimize");
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
  object.Set("absent", fromStrings(env, tree.absent));
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

std::shared_ptr<exported::ExportedProgram> programOf(const Napi::Value& value) {
  auto program = std::dynamic_pointer_cast<exported::ExportedProgram>(ModelWrap::of(value, "model"));
  if (!program) mismatch("an exported program", "model", value);
  return program;
}

// (model) → { inputs, outputs, inputTree, outputTree, argumentNames, symbols, schemaMinor }
Napi::Value describeExportedProgram(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto model = programOf(info[0]);
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
    described.Set("schemaMinor", static_cast<double>(model->schemaMinor()));
    return described;
  });
}

// (model) → { name, type, hookable, inputs, outputs, separate, inputTree, outputTree } of each module
Napi::Value modulesOfExportedProgram(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    using Kind = exported::ModuleHooks::Kind;
    const auto env = info.Env();
    const auto program = programOf(info[0]);
    auto modules = Napi::Array::New(env);
    for (const auto& [name, type] : program->modules()) {
      const Napi::HandleScope scope(env);
      const auto* hooks = program->hooksOf(name);
      const auto kind = name.empty() ? Kind::Exact : hooks ? hooks->kind : Kind::None;
      auto module = Napi::Object::New(env);
      module.Set("name", name);
      module.Set("type", type);
      module.Set("hookable", kind == Kind::None    ? Napi::Boolean::New(env, false).As<Napi::Value>()
                             : kind == Kind::Exact ? Napi::String::New(env, "exact").As<Napi::Value>()
                                                   : Napi::String::New(env, "single").As<Napi::Value>());
      module.Set("inputs", name.empty() || (hooks && hooks->inputs));
      module.Set("outputs", name.empty() || (hooks && hooks->outputs));
      module.Set("separate", name.empty() || (hooks && hooks->separate));
      if (name.empty()) {
        module.Set("inputTree", fromPytree(env, program->signature().inputTree().children[0]));
        module.Set("outputTree", fromPytree(env, program->signature().outputTree()));
      } else if (kind == Kind::Exact) {
        module.Set("inputTree", fromPytree(env, hooks->inputTree));
        module.Set("outputTree", fromPytree(env, hooks->outputTree));
      }
      modules.Set(modules.Length(), module);
    }
    return modules;
  });
}

// (model) → { name, operator, module } of each node
Napi::Value nodesOfExportedProgram(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto env = info.Env();
    auto nodes = Napi::Array::New(env);
    for (const auto& each : programOf(info[0])->nodes()) {
      const Napi::HandleScope scope(env);
      auto node = Napi::Object::New(env);
      node.Set("name", each.name);
      node.Set("operator", each.type);
      node.Set("module", each.module);
      nodes.Set(nodes.Length(), node);
    }
    return nodes;
  });
}

}  // namespace

void defineExportedFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("loadExportedProgram", Napi::Function::New(env, loadExportedProgram));
  exports.Set("modulesOfExportedProgram", Napi::Function::New(env, modulesOfExportedProgram));
  exports.Set("nodesOfExportedProgram", Napi::Function::New(env, nodesOfExportedProgram));
  exports.Set("describeExportedProgram", Napi::Function::New(env, describeExportedProgram));
}

}  // namespace lta::node
