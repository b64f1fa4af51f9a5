#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace lta::script {

// Puts the operator `lta::check() -> ()` on the back edge of every loop of a graph, forked subgraphs included, so that
// a run can be stopped in a loop that calls no module and no operator. It has side effects, so that libtorch keeps it,
// and touches no value, so that nothing is kept from moving across it: what is fused, differentiated or unrolled stays
// the same. Left without are loops that libtorch unrolls for good or that end soon by themselves. What nobody needs is
// taken out of the graph first, as libtorch would: a loop with a check looks needed. May be called twice.
void addLoopChecks(const std::shared_ptr<torch::jit::Graph>& graph);

void registerLoopChecks();

// Whether a graph, or what it calls, may assign an attribute.
bool assigns(torch::jit::Graph& graph);

// Whether a graph still calls methods or functions, which then run graphs of their own.
bool hasCalls(torch::jit::Graph& graph);

}  // namespace lta::script
