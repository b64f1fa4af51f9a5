#include "script/type_hints.h"

#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/frontend/tree_views.h>

#include <algorithm>

#include "runtime/error.h"
#include "script/definitions.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

bool isNamed(const jit::TreeRef& tree, const char* name) {
  return tree->kind() == jit::TK_VAR && jit::Var(tree).name().name() == name;
}

bool hasNoElements(const jit::TreeRef& type) {
  if (isNamed(type, "Any") || isNamed(type, "list")) return true;
  if (type->kind() != jit::TK_SUBSCRIPT) return false;
  const jit::Subscript subscript(type);
  if (!isNamed(subscript.value().tree(), "Optional") && !isNamed(subscript.value().tree(), "Union")) return false;
  const auto& members = subscript.subscript_exprs().tree()->trees();
  return std::any_of(members.begin(), members.end(), hasNoElements);
}

// Whether the compiler derives the element type of this expression from its declared type.
bool isListLiteral(const jit::TreeRef& value) {
  switch (value->kind()) {
    case jit::TK_LIST_LITERAL:
    case jit::TK_LIST_COMP:
      return true;
    case jit::TK_IF_EXPR:
      return isListLiteral(jit::TernaryIf(value).true_expr().tree()) ||
             isListLiteral(jit::TernaryIf(value).false_expr().tree());
    default:
      return false;
  }
}

void checkDeclared(const jit::TreeRef& type, const jit::TreeRef& value) {
  if (!isListLiteral(value) || !hasNoElements(type)) return;
  throw Error("ERR_MODEL_LOAD", "its code declares a list as '" + type->range().text().str() +
                                    "', which libtorch's compiler can't compile");
}

// `returned`: the declared return type of the enclosing function, or null.
void visit(const jit::TreeRef& tree, const jit::TreeRef& returned) {
  switch (tree->kind()) {
    case jit::TK_DEF: {
      const auto type = jit::Def(tree).decl().return_type();
      const auto declared = type.present() ? type.get().tree() : nullptr;
      for (const auto& child : tree->trees()) visit(child, declared);
      return;
    }
    case jit::TK_RETURN:
      if (returned) checkDeclared(returned, jit::Return(tree).expr().tree());
      break;
    case jit::TK_ASSIGN: {
      const jit::Assign assign(tree);
      if (assign.type().present() && assign.rhs().present()) {
        checkDeclared(assign.type().get().tree(), assign.rhs().get().tree());
      }
      break;
    }
    case jit::TK_APPLY: {
      const jit::Apply call(tree);
      if (isNamed(call.callee().tree(), "annotate") && call.inputs().size() == 2) {
        checkDeclared(call.inputs()[0].tree(), call.inputs()[1].tree());
      }
      break;
    }
    default:
      break;
  }
  for (const auto& child : tree->trees()) visit(child, returned);
}

}  // namespace

void checkTypeHints(const std::shared_ptr<jit::Source>& source) {
  // Avoids parsing: hardly any code names one of these.
  const auto& text = source->text_str().str();
  if (text.find("Any") == std::string::npos && text.find("list") == std::string::npos) return;
  eachDefinition(source, [](const jit::TreeRef& definition) { visit(definition, nullptr); });
}

}  // namespace lta::script
