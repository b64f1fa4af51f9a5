// Cancellation checks on the back edges of loops, for every program.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace lta::script {

// Inserts `lta::check() -> ()` at the back edge of every loop, subgraphs included, so that a run can be stopped in a
// loop without module calls or operators. It has side effects, so dead-code elimination keeps it, and no operands, so
// it restricts no fusion, differentiation or unrolling. Loops that libtorch unrolls and short ones of a constant trip
// count go without. Dead code is eliminated first, since a check keeps its loop alive. Idempotent.
void addLoopChecks(const std::shared_ptr<torch::jit::Graph>& graph);

void registerLoopChecks();

// Whether a graph or its callees may assign an attribute.
bool assigns(torch::jit::Graph& graph);

// Whether a graph has calls left, which run graphs of their own.
bool hasCalls(torch::jit::Graph& graph);

}  // namespace lta::script
