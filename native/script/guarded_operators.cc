#include "script/guarded_operators.h"

#include <torch/csrc/jit/runtime/operator.h>

#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "runtime/operator_checks.h"
#include "torch/dispatcher.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// What is checked ahead of one operator.
struct Checks {
  std::vector<std::pair<size_t, const Enumeration*>> enumerations;  // by argument
  OperatorCheck check = nullptr;

  bool any() const { return check || !enumerations.empty(); }
};

Checks checksOf(const jit::Operator& what) {
  Checks checks;
  const auto& arguments = what.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (const auto* enumeration = enumerationOf(arguments[i])) checks.enumerations.emplace_back(i, enumeration);
  }
  checks.check = checkOf(what.schema(), what.isC10Op());
  return checks;
}

jit::Operation guarded(jit::Operation operation, Checks checks, size_t count) {
  if (!checks.any()) return operation;
  return [operation = std::move(operation), checks = std::move(checks), count](jit::Stack& stack) mutable {
    const auto arguments = c10::ArrayRef<c10::IValue>(stack).slice(stack.size() - count, count);
    for (const auto& [argument, enumeration] : checks.enumerations) {
      checkEnumeration(*enumeration, arguments[argument]);
    }
    if (checks.check) checks.check(arguments);
    operation(stack);
  };
}

void registerGuarded(const jit::Operator& what) {
  const auto& schema = what.schema();
  const auto aliases = what.aliasAnalysisKind();
  auto operation = guarded(what.getOperation(), checksOf(what), schema.arguments().size());
  if (what.isC10Op()) {
    const auto handle = c10::Dispatcher::singleton().findSchema(schema.operator_name());
    if (!handle) return;
    jit::deregisterOperator(schema);
    jit::registerOperator(jit::Operator(*handle, std::move(operation)));
  } else {
    jit::deregisterOperator(schema);
    jit::registerOperator(jit::Operator(toString(schema), std::move(operation), aliases));
  }
}

}  // namespace

void guardOperators() {
  static std::once_flag once;
  std::call_once(once, [] {
    using Group = std::pair<c10::Symbol, bool>;  // name, and whether dispatched
    std::set<Group> groups;
    for (const auto& each : jit::getAllOperators()) {
      if (each->hasOperation() && checksOf(*each).any()) {
        groups.emplace(c10::Symbol::fromQualString(each->schema().name()), each->isC10Op());
      }
    }
    // Re-registers all overloads of a group in their order, since the first match is taken.
    for (const auto& [name, dispatched] : groups) {
      const auto operators = jit::getAllOperatorsFor(name);
      for (const auto& each : operators) {
        if (each->hasOperation() && each->isC10Op() == dispatched) registerGuarded(*each);
      }
    }
  });
}

}  // namespace lta::script
