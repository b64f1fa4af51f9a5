#include "script/loop_checks.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "runtime/cancellation.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

const c10::Symbol kCheck = c10::Symbol::fromQualString("lta::check");

// Loops of a constant trip count go without a check if they execute at most this many nodes, nested ones included:
// straight-line code of that length has none either.
constexpr int64_t kMaxUncheckedNodes = 10'000;

void check(jit::Stack&) {
  if (auto* run = Cancellation::current()) run->checkLoop();
}

// The trip count of a loop, if it is constant.
std::optional<int64_t> constantTripCount(const jit::Node& loop) {
  const auto isTrueConstant = [](const jit::Value* value) {
    const auto known = jit::toIValue(value);
    return known && known->isBool() && known->toBool();
  };
  const auto most = jit::toIValue(loop.input(0));
  if (!most || !most->isInt()) return std::nullopt;
  if (!isTrueConstant(loop.input(1)) || !isTrueConstant(loop.blocks().at(0)->outputs().at(0))) return std::nullopt;
  return std::max<int64_t>(most->toInt(), 0);
}

// Adds checks to a block. Returns the number of nodes it executes without one, saturated just above kMaxUncheckedNodes.
int64_t addChecks(jit::Block& block) {
  int64_t nodes = 0;
  for (auto* node : block.nodes()) {
    if (node->kind() == kCheck) continue;
    int64_t inside = 0;
    for (auto* inner : node->blocks()) inside += addChecks(*inner);
    if (node->hasAttribute(jit::attr::Subgraph)) inside += addChecks(*node->g(jit::attr::Subgraph)->block());
    if (node->kind() == jit::prim::Loop) {
      auto& body = *node->blocks().at(0);
      const auto trips = constantTripCount(*node);
      if (trips && *trips <= kMaxUncheckedNodes && *trips * (inside + 1) <= kMaxUncheckedNodes) {
        inside *= *trips;
      } else {
        const auto has = [](const jit::Node* each) { return each->kind() == kCheck; };
        if (std::none_of(body.nodes().begin(), body.nodes().end(), has)) {
          auto* check = block.owningGraph()->create(kCheck, /*num_outputs=*/0);
          check->setSourceRange(node->sourceRange());
          check->insertBefore(body.return_node());
          if (const auto stack = node->callstack()) check->setCallStack(*stack);
        }
        inside = 0;
      }
    }
    nodes = std::min(kMaxUncheckedNodes + 1, nodes + 1 + inside);
  }
  return nodes;
}

bool any(jit::Block& block, const std::function<bool(jit::Node&)>& holds) {
  for (auto* node : block.nodes()) {
    if (holds(*node)) return true;
    for (auto* inner : node->blocks()) {
      if (any(*inner, holds)) return true;
    }
    if (node->hasAttribute(jit::attr::Subgraph) && any(*node->g(jit::attr::Subgraph)->block(), holds)) return true;
  }
  return false;
}

}  // namespace

void addLoopChecks(const std::shared_ptr<jit::Graph>& graph) {
  if (!any(*graph->block(), [](jit::Node& node) { return node.kind() == jit::prim::Loop; })) return;
  jit::EliminateDeadCode(graph);
  addChecks(*graph->block());
}

bool assigns(jit::Graph& graph) {
  return hasCalls(graph) || any(*graph.block(), [](jit::Node& node) { return node.kind() == jit::prim::SetAttr; });
}

bool hasCalls(jit::Graph& graph) {
  return any(*graph.block(), [](jit::Node& node) {
    return node.kind() == jit::prim::CallMethod || node.kind() == jit::prim::CallFunction;
  });
}

void registerLoopChecks() {
  static const jit::RegisterOperators registration(
      {jit::Operator("lta::check() -> ()", check, c10::AliasAnalysisKind::CONSERVATIVE)});
}

}  // namespace lta::script
