#include "script/scalar_tensors.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/canonicalize_graph_fuser_ops.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include <utility>
#include <vector>

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Puts an operator between such nodes and a constant without dimensions, if `chosen` says so. Executors look for
// constants there, and fold the operator afterwards.
template <typename Chosen>
void keepTensors(std::shared_ptr<jit::Graph>& graph, Chosen chosen) {
  std::vector<jit::Node*> nodes;
  jit::DepthFirstGraphNodeIterator every(graph);
  while (auto* node = every.next()) {
    const auto kind = node->kind();
    const bool looked =
        kind == c10::aten::add || kind == c10::aten::sub || kind == c10::aten::mul || kind == c10::aten::div;
    if (!looked || node->inputs().size() < 2) continue;
    const auto constant = jit::toIValue(node->input(1));
    if (constant && constant->isTensor() && constant->toTensor().dim() == 0 && chosen(constant->toTensor()))
      nodes.push_back(node);
  }
  for (auto* node : nodes) {
    auto* tensor = graph->create(c10::aten::detach, {node->input(1)}, 1);
    tensor->insertBefore(node);
    node->replaceInput(1, tensor->output());
  }
}

}  // namespace

void makeNumbers(std::shared_ptr<jit::Graph>& graph) {
  // libtorch knows no operator for a boolean there, and refuses the program.
  keepTensors(graph, [](const at::Tensor& tensor) { return tensor.scalar_type() == at::kBool; });
  jit::CanonicalizeOps(graph);
}

void keepScalarTensors(std::shared_ptr<jit::Graph>& graph) {
  keepTensors(graph, [](const at::Tensor&) { return true; });
}

}  // namespace lta::script
