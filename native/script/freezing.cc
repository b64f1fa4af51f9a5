#include "script/freezing.h"

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/frozen_graph_optimizations.h>
#include <torch/csrc/jit/passes/peephole.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "script/module_boundaries.h"
#include "script/scalar_tensors.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

using Object = c10::intrusive_ptr<c10::ivalue::Object>;

// The object a value refers to, resolved attribute by attribute; null if it isn't an attribute of the module.
Object objectOf(const jit::Value* value, const jit::Value* self, const jit::Module& root) {
  if (value == self) return root._ivalue();
  const auto* node = value->node();
  if (node->kind() != jit::prim::GetAttr) return {};
  const auto owner = objectOf(node->input(), self, root);
  if (!owner) return {};
  const auto slot = owner->type()->findAttributeSlot(node->s(jit::attr::name));
  return slot && owner->getSlot(*slot).isObject() ? owner->getSlot(*slot).toObject() : Object();
}

// Names of the attributes that the graph may assign.
class Assigned {
 public:
  explicit Assigned(const std::vector<jit::Node*>& nodes) {
    for (const auto* node : nodes) {
      const auto kind = node->kind();
      if (kind == jit::prim::SetAttr) assigned_.insert(node->s(jit::attr::name));
      // A call that wasn't inlined may assign anything.
      all_ = all_ || kind == jit::prim::CallMethod || kind == jit::prim::CallFunction || kind == jit::prim::fork;
    }
  }
  bool contains(const std::string& name) const { return all_ || assigned_.count(name) != 0; }

 private:
  bool all_ = false;
  std::unordered_set<std::string> assigned_;
};

// Whether an operator may write to `value` or to a view of it. Boundary operators don't count: hooks may replace values
// but not modify them.
bool isWritten(const jit::Value* value, int depth = 0) {
  if (depth > 16) return true;
  for (const auto& use : value->uses()) {
    const auto* node = use.user;
    if (node->kind() == kEnter || node->kind() == kLeave) continue;
    const auto* schema = node->maybeSchema();
    if (!schema) {
      if (node->kind() == jit::prim::Loop) return true;  // loop-carried: not followed
      // Passed out of a branch or into a list or tuple.
      if (node->kind() == jit::prim::Return) node = node->owningBlock()->owningNode();
      if (!node) continue;
      for (const auto* output : node->outputs()) {
        if (isWritten(output, depth + 1)) return true;
      }
      continue;
    }
    if (use.offset < schema->arguments().size()) {
      const auto* alias = schema->arguments()[use.offset].alias_info();
      if (alias && alias->isWrite()) return true;
      if (alias) {
        for (const auto* output : node->outputs()) {
          if (isWritten(output, depth + 1)) return true;
        }
      }
    }
  }
  return false;
}

// Whether a fused layer operator takes the value. Its parameters stay attributes: they identify the module, whereas
// equal constants are merged, and there is nothing to fold.
bool feedsFusedLayer(const jit::Value* value) {
  static const auto kLayer = c10::Symbol::aten("_transformer_encoder_layer_fwd");
  static const auto kAttention = c10::Symbol::aten("_native_multi_head_attention");
  return std::any_of(value->uses().begin(), value->uses().end(),
                     [](const jit::Use& use) { return use.user->kind() == kLayer || use.user->kind() == kAttention; });
}

// The attributes of which alone a softmax is made: weights that are learned. Folded, they would be nowhere to be seen.
std::unordered_set<const jit::Node*> readForSoftmax(const std::vector<jit::Node*>& nodes) {
  std::unordered_set<const jit::Node*> reads;
  for (const auto* node : nodes) {
    if (node->kind() != c10::aten::softmax && node->kind() != c10::aten::_softmax) continue;
    std::vector<const jit::Node*> attributes;
    std::vector<const jit::Value*> open{node->input(0)};
    std::unordered_set<const jit::Value*> seen;
    bool fixed = true;
    while (fixed && !open.empty()) {
      const auto* value = open.back();
      open.pop_back();
      const auto kind = value->node()->kind();
      if (!seen.insert(value).second || kind == jit::prim::Constant) continue;
      if (kind == jit::prim::GetAttr) {
        attributes.push_back(value->node());
        continue;
      }
      fixed = kind != jit::prim::Param;
      for (const auto* input : value->node()->inputs()) open.push_back(input);
      for (const auto* block : value->node()->blocks()) {
        for (const auto* output : block->outputs()) open.push_back(output);
      }
    }
    if (fixed) reads.insert(attributes.begin(), attributes.end());
  }
  return reads;
}

}  // namespace

void freezeGraph(std::shared_ptr<jit::Graph>& graph, const jit::Module& root) {
  if (graph->inputs().empty()) return;
  auto* const self = graph->inputs()[0];
  std::vector<jit::Node*> nodes;
  jit::DepthFirstGraphNodeIterator every(graph);
  while (auto* node = every.next()) nodes.push_back(node);
  // A frozen checkpoint has its state as constants. If the graph writes to one, constant folding would be wrong.
  for (const auto* node : nodes) {
    if (node->kind() == jit::prim::Constant && node->outputs().size() == 1 &&
        node->output()->type()->isSubtypeOf(*c10::TensorType::get()) && isWritten(node->output())) {
      return;
    }
  }
  const Assigned assigned(nodes);
  const auto kept = readForSoftmax(nodes);
  std::vector<std::pair<jit::Node*, c10::IValue>> reads;
  // An attribute may be read several times: a write through one read is visible to the others.
  std::unordered_set<const c10::StorageImpl*> written;
  const auto storageOf = [](const c10::IValue& value) -> const c10::StorageImpl* {
    const bool has = value.isTensor() && value.toTensor().defined() && value.toTensor().has_storage();
    return has ? value.toTensor().storage().unsafeGetStorageImpl() : nullptr;
  };
  for (auto* node : nodes) {
    if (node->kind() != jit::prim::GetAttr || assigned.contains(node->s(jit::attr::name)) || kept.count(node) != 0)
      continue;
    const auto owner = objectOf(node->input(), self, root);
    if (!owner) continue;
    const auto slot = owner->type()->findAttributeSlot(node->s(jit::attr::name));
    if (!slot) continue;
    auto value = owner->getSlot(*slot);
    if (isWritten(node->output())) {
      if (const auto* storage = storageOf(value)) written.insert(storage);
      continue;
    }
    if (value.isObject() || (value.isTensor() && !value.toTensor().defined()) || feedsFusedLayer(node->output())) {
      continue;
    }
    if (value.isTensor()) value = value.toTensor().detach();
    reads.emplace_back(node, std::move(value));
  }
  std::erase_if(reads, [&](const auto& read) { return written.count(storageOf(read.second)) != 0; });
  for (auto& [node, value] : reads) {
    const jit::WithInsertPoint here(node);
    if (const auto constant = jit::tryInsertConstant(*graph, value)) node->output()->replaceAllUsesWith(*constant);
  }
  jit::ConstantPropagation(graph);
  // Branches that constants decide hide others, which the executor would fold where nobody sees them.
  jit::PeepholeOptimize(graph);
  jit::ConstantPropagation(graph);
  jit::EliminateDeadCode(graph);
  jit::OptimizeFrozenGraph(graph);
  keepScalarTensors(graph);
}

}  // namespace lta::script
