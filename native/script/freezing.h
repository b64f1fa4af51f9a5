// Freezing of inlined graphs. Keeps call stacks, so that nodes keep their module names.
#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace lta::script {

// Freezes an inlined graph for inference: attributes of `root` that the graph only reads become constants and are
// folded. Results may differ in the last bits; call stacks and the operators of module_boundaries.h stay. What the
// graph writes to (caches, counters) stays an attribute. Not for runs that record gradients, which constants don't
// have.
void freezeGraph(std::shared_ptr<torch::jit::Graph>& graph, const torch::jit::Module& root);

}  // namespace lta::script
