#include "script/untrusted.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/frontend/tree_views.h>
#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "runtime/allowed_operators.h"
#include "runtime/error.h"
#include "script/definitions.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;
using Names = std::unordered_set<std::string>;

// Operations of TorchScript itself, as code names them and as they are compiled.
const Names& allowedPrimitives() {
  static const auto* names = new Names{
      "AutogradZero",
      "CallFunction",
      "CallMethod",
      "Constant",
      "ConstantChunk",
      "CreateObject",
      "DictConstruct",
      "EnumName",
      "EnumValue",
      "GetAttr",
      "HasAttr",
      "If",
      "ListConstruct",
      "ListUnpack",
      "Loop",
      "NumToTensor",
      "RaiseException",
      "Return",
      "SetAttr",
      "StringIndex",
      "TupleConstruct",
      "TupleIndex",
      "TupleSlice",
      "TupleUnpack",
      "Uninitialized",
      "abs",
      "device",
      "dtype",
      "is_cpu",
      "is_cuda",
      "is_meta",
      "is_mkldnn",
      "is_nested",
      "is_quantized",
      "is_sparse",
      "isinstance",
      "itemsize",
      "layout",
      "max",
      "min",
      "nbytes",
      "rangelist",
      "requires_grad",
      "shape",
      "tolist",
      "type",
      "unchecked_cast",
      "unchecked_unwrap_optional",
  };
  return *names;
}

// Builtins that are refused in source; everything else is checked in the graphs.
const Names& refusedBuiltins() {
  static const auto* names = new Names{"print", "fork", "awaitable", "open", "input", "id", "hash"};
  return *names;
}

// Operations that only move values.
const Names& allowedInSetState() {
  static const auto* names = new Names{
      "prim::Constant",   "prim::GetAttr",        "prim::SetAttr",    "prim::TupleUnpack",   "prim::TupleConstruct",
      "prim::TupleIndex", "prim::unchecked_cast", "prim::ListUnpack", "prim::ListConstruct",
  };
  return *names;
}

constexpr const char* kCustomClasses = "__torch__.torch.classes";

Error refused(const std::string& what) {
  return Error("ERR_UNTRUSTED", "the program " + what + ", which a program from an untrusted source must not do");
}

// The components of a.b.c; empty if the root isn't a name.
std::vector<std::string> dotted(const jit::TreeRef& tree) {
  std::vector<std::string> names;
  auto at = tree;
  while (at->kind() == '.') {
    names.push_back(jit::Select(at).selector().name());
    at = at->tree(0);
  }
  if (at->kind() != jit::TK_VAR) return {};
  names.push_back(jit::Var(at).name().name());
  return {names.rbegin(), names.rend()};
}

bool isCustomClass(const std::string& name) { return name.find(kCustomClasses) != std::string::npos; }

void checkType(const c10::TypePtr& type) {
  if (const auto custom = type->cast<c10::ClassType>();
      custom && custom->name() && isCustomClass(custom->name()->qualifiedName())) {
    throw refused("uses the custom class '" + custom->name()->qualifiedName() + "'");
  }
}

void checkNode(jit::Node& node) {
  const std::string name = node.kind().toUnqualString();
  const bool known = node.kind().is_aten()   ? isAllowedOperator(name)
                     : node.kind().is_prim() ? allowedPrimitives().count(name) > 0
                                             : false;
  if (!known) throw refused(std::string("uses '") + node.kind().toQualString() + "'");
  for (const auto* input : node.inputs()) checkType(input->type());
  for (const auto* output : node.outputs()) checkType(output->type());
}

void checkBlock(jit::Block& block) {
  std::vector<jit::Node*> warnings;
  for (auto* node : block.nodes()) {
    checkNode(*node);
    for (auto* inner : node->blocks()) checkBlock(*inner);
    if (node->kind() == c10::Symbol::fromQualString("aten::warn")) warnings.push_back(node);
  }
  for (auto* warning : warnings) warning->destroy();
}

}  // namespace

void UntrustedCode::addSource(const std::shared_ptr<jit::Source>& source) {
  eachDefinition(source, [this](const jit::TreeRef& definition) { visit(definition, false); });
}

void UntrustedCode::visit(const jit::TreeRef& tree, bool called) {
  switch (tree->kind()) {
    case jit::TK_DEF:
      methods_.insert(jit::Def(tree).name().name());
      break;
    case jit::TK_VAR:
      if (const auto& name = jit::Var(tree).name().name(); called && refusedBuiltins().count(name)) {
        throw refused("calls '" + name + "'");
      }
      break;
    case '.': {
      const auto names = dotted(tree);
      if (!names.empty() && names[0] == "torch") {
        if (names.size() != 2 || !isAllowedOperator(names[1])) {
          std::string shown = names[0];
          for (size_t i = 1; i < names.size(); ++i) shown += "." + names[i];
          throw refused("uses '" + shown + "'");
        }
        return;
      }
      if (!names.empty() && names[0] == "ops") {
        const bool known = names.size() == 3 && (names[1] == "aten"   ? isAllowedOperator(names[2])
                                                 : names[1] == "prim" ? allowedPrimitives().count(names[2]) > 0
                                                                      : false);
        if (names.size() > 2 && !known) throw refused("uses '" + names[1] + "::" + names[2] + "'");
        if (names.size() > 2) return;
        throw refused("uses a namespace of operators as a value");
      }
      if (!names.empty() && names[0] == "__torch__") {
        std::string full = names[0];
        for (size_t i = 1; i < names.size(); ++i) full += "." + names[i];
        checkTypeName(full);
        return;
      }
      if (called) called_.insert(jit::Select(tree).selector().name());
      return visit(tree->tree(0), false);
    }
    case jit::TK_APPLY: {
      visit(tree->tree(0), true);
      for (size_t i = 1; i < tree->trees().size(); ++i) visit(tree->tree(i), false);
      return;
    }
    default:
      break;
  }
  for (const auto& child : tree->trees()) visit(child, false);
}

void UntrustedCode::check() const {
  for (const auto& name : called_) {
    if (!isAllowedOperator(name) && !allowedPrimitives().count(name) && !methods_.count(name)) {
      throw refused("calls '" + name + "'");
    }
  }
}

void checkTypeName(const std::string& type) {
  if (isCustomClass(type)) throw refused("uses the custom class '" + type.substr(0, 100) + "'");
}

void checkSetState(jit::Function& function) {
  if (!function.isGraphFunction()) throw refused("has a `__setstate__` that isn't its own");
  for (const auto* node : jit::toGraphFunction(function).graph()->nodes()) {
    if (!allowedInSetState().count(node->kind().toQualString())) {
      throw refused(std::string("has a `__setstate__` with '") + node->kind().toQualString() + "'");
    }
  }
}

void checkCompiled(const jit::CompilationUnit& units) {
  for (auto* function : units.get_functions()) {
    if (!function->isGraphFunction()) throw refused("has a function that isn't its own");
    auto& graphFunction = jit::toGraphFunction(*function);
    checkBlock(*graphFunction.graph()->block());
  }
}

}  // namespace lta::script
