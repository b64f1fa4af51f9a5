#include "script/layer_fusion.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fused/operators.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;
using fused::OptionalTensor;
using jit::Node;
using jit::Value;

const c10::Symbol kLinear = c10::Symbol::fromQualString("lta::linear");
const c10::Symbol kFeedForward = c10::Symbol::fromQualString("lta::feed_forward");

bool isTensor(const Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }
bool isNone(const Value* value) { return value->type()->kind() == c10::TypeKind::NoneType; }

// A constant tensor, or none; nothing where it is something else.
std::optional<OptionalTensor> constantTensor(const Value* value) {
  const auto constant = jit::toIValue(value);
  if (!constant) return std::nullopt;
  if (constant->isNone()) return OptionalTensor();
  if (!constant->isTensor()) return std::nullopt;
  return constant->toTensor();
}

// Whether a node reads tensors at most, so that others may be moved past it.
bool isQuiet(const Node& node) {
  if (!node.blocks().empty() || node.hasSideEffects()) return false;
  if (node.kind().is_prim()) return node.kind() != jit::prim::SetAttr;
  const auto* schema = node.maybeSchema();
  return schema && !schema->is_mutable();
}

// Whether what `first` computes may as well be computed where `last` is.
bool mayMove(const Node* first, const Node* last) {
  constexpr int kMostBetween = 256;
  if (first->owningBlock() != last->owningBlock()) return false;
  int between = 0;
  for (const auto* node = first->next(); node != last; node = node->next()) {
    if (node->kind() == jit::prim::Return || ++between > kMostBetween || !isQuiet(*node)) return false;
  }
  return true;
}

// Dropout that gives its input.
bool isIdentity(const Node& node) {
  if (node.kind() != jit::aten::dropout) return false;
  const auto training = jit::toIValue(node.input(2));
  return training && training->isBool() && !training->toBool();
}

// A linear layer and the nodes behind it that become one.
class Chain {
 public:
  Chain(Node* linear, fused::Weight weight) : nodes_{linear}, weight_(std::move(weight)) {}

  void extend() {
    if (auto* const next = user()) takeActivation(next);
    if (auto* const next = user()) takeResidual(next);
    if (auto* const next = user()) takeNorm(next);
  }

  void replace(jit::Graph& graph) {
    auto* const linear = nodes_.front();
    auto* const last = nodes_.back();
    const jit::WithInsertPoint here(last);
    const auto constant = [&](const c10::IValue& value) { return graph.insertConstant(value); };
    auto* const none = constant(c10::IValue());
    auto* const node = graph.create(
        kLinear, {linear->input(0), linear->input(1), linear->input(2), constant(weight_.packed),
                  constant(weight_.version), constant(static_cast<int64_t>(activation_)), residual_ ? residual_ : none,
                  norm_ ? norm_->input(2) : none, norm_ ? norm_->input(3) : none, norm_ ? norm_->input(4) : none});
    finish(*node, *linear, *last);
    for (auto each = nodes_.rbegin(); each != nodes_.rend(); ++each) (*each)->destroy();
  }

  // Inserts a node in place of `last`.
  static void finish(Node& node, const Node& named, Node& last) {
    node.output()->setType(c10::TensorType::get());
    node.setSourceRange(named.sourceRange());
    if (const auto stack = named.callstack()) node.setCallStack(*stack);
    node.insertBefore(&last);
    last.output()->replaceAllUsesWith(node.output());
  }

 private:
  Value* output() const { return nodes_.back()->output(); }

  // The only node that reads what the chain gives, behind dropouts.
  Node* user() {
    passed_.clear();
    auto* value = output();
    for (;;) {
      if (value->uses().size() != 1) return nullptr;
      auto* const next = value->uses()[0].user;
      if (!mayMove(nodes_.back(), next)) return nullptr;
      if (!isIdentity(*next)) return next;
      passed_.push_back(next);
      value = next->output();
    }
  }

  void take(Node* node) {
    nodes_.insert(nodes_.end(), passed_.begin(), passed_.end());
    nodes_.push_back(node);
  }

  void takeActivation(Node* node) {
    std::string approximate = "none";
    if (node->kind() == jit::aten::gelu && node->inputs().size() > 1) {
      const auto given = jit::toIValue(node->input(1));
      if (!given || !given->isString()) return;
      approximate = given->toStringRef();
    }
    const auto found = fused::activationOf(node->kind().toQualString(), approximate);
    if (!found) return;
    activation_ = *found;
    take(node);
  }

  void takeResidual(Node* node) {
    if (node->kind() != jit::aten::add || node->inputs().size() != 3 || !isTensor(node->input(0)) ||
        !isTensor(node->input(1))) {
      return;
    }
    const auto alpha = jit::toIValue(node->input(2));
    if (!alpha || !alpha->isInt() || alpha->toInt() != 1) return;
    const auto* const given = passed_.empty() ? output() : passed_.back()->output();
    residual_ = node->input(0) == given ? node->input(1) : node->input(0);
    take(node);
  }

  void takeNorm(Node* node) {
    if (node->kind() != jit::aten::layer_norm) return;
    const auto shape = jit::toIValue(node->input(1));
    const auto weight = constantTensor(node->input(2)), bias = constantTensor(node->input(3));
    const auto epsilon = jit::toIValue(node->input(4));
    const int64_t columns = weight_.weight.size(0);
    if (!shape || !shape->isIntList() || shape->toIntVector() != std::vector<int64_t>{columns} || !weight || !bias ||
        !epsilon || !epsilon->isDouble() || !fused::canNormalize(*weight, *bias, columns)) {
      return;
    }
    norm_ = node;
    take(node);
  }

  std::vector<Node*> nodes_;   // in their order
  std::vector<Node*> passed_;  // dropouts on the way to the node that is looked at
  fused::Weight weight_;
  Activation activation_ = Activation::None;
  Value* residual_ = nullptr;
  Node* norm_ = nullptr;
};

std::vector<Node*> nodesOf(std::shared_ptr<jit::Graph>& graph, c10::Symbol kind) {
  std::vector<Node*> nodes;
  jit::DepthFirstGraphNodeIterator every(graph);
  while (auto* node = every.next()) {
    if (node->kind() == kind) nodes.push_back(node);
  }
  return nodes;
}

// A layer whose only reader is another one.
void joinFeedForward(Node* second, jit::Graph& graph) {
  auto* value = second->input(fused::kInput);
  std::vector<Node*> passed;
  while (isIdentity(*value->node()) && value->uses().size() == 1) {
    passed.push_back(value->node());
    value = value->node()->input(0);
  }
  auto* const first = value->node();
  if (first->kind() != kLinear || value->uses().size() != 1 || !mayMove(first, second) ||
      !isNone(first->input(fused::kResidual)) || !isNone(first->input(fused::kEpsilon))) {
    return;
  }
  // An activation of the second layer isn't among the arguments.
  const auto activation = jit::toIValue(second->input(fused::kActivation));
  if (!activation || activation->toInt() != static_cast<int64_t>(Activation::None)) return;
  const auto inputs = fused::feedForwardArguments<Value*>(first->inputs(), second->inputs());
  Chain::finish(*graph.create(kFeedForward, inputs), *first, *second);
  second->destroy();
  for (auto* const each : passed) each->destroy();
  first->destroy();
}

}  // namespace

void fuseLayers(std::shared_ptr<jit::Graph>& graph) {
  fused::PackedWeights packed;
  for (auto* const node : nodesOf(graph, jit::aten::linear)) {
    const auto weight = constantTensor(node->input(1)), bias = constantTensor(node->input(2));
    if (!weight || !*weight || !bias || !fused::canPack(**weight, *bias)) continue;
    Chain chain(node, packed.of(**weight, *bias));
    chain.extend();
    chain.replace(*graph);
  }
  for (auto* const node : nodesOf(graph, kLinear)) joinFeedForward(node, *graph);
  jit::EliminateDeadCode(graph);
}

}  // namespace lta::script
