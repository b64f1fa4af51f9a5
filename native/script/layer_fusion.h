// Linear layers and what follows them, as single operators.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace lta::script {

// Puts lta::linear and lta::feed_forward (fused/operators.h) in place of linears with constant weights, and of the
// activations, additions and layer norms behind them, in a frozen graph. The new nodes have the call stacks of the
// linears. Results differ by rounding. Not for graphs with operators of module_boundaries.h, whose hooks would see
// other modules, nor for captures of single operators.
void fuseLayers(std::shared_ptr<torch::jit::Graph>& graph);

}  // namespace lta::script
