#include <torch/csrc/jit/codegen/onednn/interface.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/pass_manager.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <unordered_set>
#include <utility>

#include "script/fused_parts.h"
#include "script/fusion.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

thread_local bool fusing = false;

bool isProduct(c10::Symbol kind) {
  static const std::unordered_set<c10::Symbol> kinds{
      c10::aten::matmul, c10::aten::bmm,    c10::aten::baddbmm, c10::aten::mm,        c10::aten::addmm,
      c10::aten::mv,     c10::aten::linear, c10::aten::einsum,  c10::aten::tensordot,
  };
  return kinds.count(kind) != 0;
}

// Whether a value depends on what the method is called with.
bool isComputed(const jit::Value* value) {
  const auto kind = value->node()->kind();
  return kind != jit::prim::Constant && kind != jit::prim::GetAttr;
}

// A product of two values that the graph computes: scores, as long as nothing says otherwise.
bool isScores(const jit::Node& node) {
  if (!isProduct(node.kind()) || node.kind() == c10::aten::einsum) return false;
  int64_t computed = 0;
  for (const auto* input : node.inputs())
    computed += input->type()->isSubtypeOf(*c10::TensorType::get()) && isComputed(input);
  return computed > 1;
}

// Whether a softmax flows into a product, or into a sum of what it multiplied, through whatever takes one tensor and
// gives one.
bool reachesProduct(const jit::Value* value, int depth = 0) {
  if (depth > 8) return false;
  for (const auto& use : value->uses()) {
    const auto kind = use.user->kind();
    if (isProduct(kind) || kind == c10::aten::sum) return true;
    for (const auto* output : use.user->outputs()) {
      if (reachesProduct(output, depth + 1)) return true;
    }
  }
  return false;
}

bool hasEagerAttention(std::shared_ptr<jit::Graph>& graph) {
  jit::DepthFirstGraphNodeIterator every(graph);
  while (const auto* node = every.next()) {
    const auto kind = node->kind();
    const bool weights = kind == c10::aten::softmax || kind == c10::aten::_softmax || kind == c10::aten::log_softmax ||
                         kind == c10::aten::exp || isScores(*node);
    if (weights && reachesProduct(node->output())) return true;
  }
  return false;
}

// The fuser may fail on a graph, which then stays as it was.
void fuse(std::shared_ptr<jit::Graph>& graph) {
  if (!fusing || hasEagerAttention(graph)) return;
  auto unfused = graph->copy();
  try {
    jit::fuser::onednn::fuseGraph(graph);
    keepUnfusedForms(*graph->block());
  } catch (const std::exception&) {
    graph = std::move(unfused);
  }
}

}  // namespace

bool hasFusion() { return true; }

void registerFusion() {
  registerFusedParts();
  jit::registerPrePass(fuse);
}

bool setFusing(bool on) { return std::exchange(fusing, on); }

}  // namespace lta::script
