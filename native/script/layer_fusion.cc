#include "script/layer_fusion.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fused/layer_matcher.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Whether a node reads tensors at most, so that others may be moved past it.
bool isQuiet(const jit::Node& node) {
  if (!node.blocks().empty() || node.hasSideEffects()) return false;
  if (node.kind().is_prim()) return node.kind() != jit::prim::SetAttr;
  const auto* schema = node.maybeSchema();
  return schema && !schema->is_mutable();
}

// A frozen graph as fused/layer_matcher.h asks for it.
class GraphView {
 public:
  using Node = jit::Node*;
  using Value = jit::Value*;

  explicit GraphView(std::shared_ptr<jit::Graph>& graph) : graph_(graph) {}

  std::vector<Node> nodesOf(const char* name) const {
    const auto kind = c10::Symbol::fromQualString(name);
    std::vector<Node> nodes;
    jit::DepthFirstGraphNodeIterator every(graph_);
    while (auto* node = every.next()) {
      if (node->kind() == kind) nodes.push_back(node);
    }
    return nodes;
  }

  static std::string operatorOf(const jit::Node* node) { return node->kind().toQualString(); }
  static size_t inputCount(const jit::Node* node) { return node->inputs().size(); }
  static Value input(Node node, size_t place) { return node->input(place); }

  static std::optional<Value> output(Node node) {
    if (node->outputs().size() != 1) return std::nullopt;
    return node->output();
  }

  static std::optional<Node> producer(Value value) { return value->node(); }

  static std::optional<Node> onlyReader(const jit::Value* value) {
    if (value->uses().size() != 1) return std::nullopt;
    return value->uses()[0].user;
  }

  static bool isTensor(const jit::Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }
  static bool areSame(const jit::Value* first, const jit::Value* second) { return first == second; }

  static std::optional<c10::IValue> constant(const jit::Value* value) { return jit::toIValue(value); }

  static std::optional<fused::OptionalTensor> weight(const jit::Value* value) {
    const auto constant = jit::toIValue(value);
    if (!constant) return std::nullopt;
    if (constant->isNone()) return fused::OptionalTensor();
    if (!constant->isTensor()) return std::nullopt;
    return constant->toTensor();
  }

  static bool mayMove(const jit::Node* first, const jit::Node* last) {
    if (first->owningBlock() != last->owningBlock()) return false;
    size_t between = 0;
    for (const auto* node = first->next(); node != last; node = node->next()) {
      if (node->kind() == jit::prim::Return || ++between > fused::kMostNodesBetween || !isQuiet(*node)) return false;
    }
    return true;
  }

  Value insertConstant(Node node, const c10::IValue& value) {
    const jit::WithInsertPoint here(node);
    return graph_->insertConstant(value);
  }

  void replace(const std::vector<Node>& nodes, const c10::OperatorHandle& handle, const std::vector<Value>& inputs) {
    const auto& named = *nodes.front();
    auto& last = *nodes.back();
    auto* const node = graph_->create(c10::Symbol::fromQualString(handle.operator_name().name), inputs);
    node->output()->setType(c10::TensorType::get());
    node->setSourceRange(named.sourceRange());
    if (const auto stack = named.callstack()) node->setCallStack(*stack);
    node->insertBefore(&last);
    last.output()->replaceAllUsesWith(node->output());
    for (auto each = nodes.rbegin(); each != nodes.rend(); ++each) (*each)->destroy();
  }

 private:
  std::shared_ptr<jit::Graph>& graph_;
};

}  // namespace

void fuseLayers(std::shared_ptr<jit::Graph>& graph) {
  GraphView view(graph);
  fused::LayerMatcher matcher(view);
  matcher.replaceAll();
  jit::EliminateDeadCode(graph);
}

}  // namespace lta::script
