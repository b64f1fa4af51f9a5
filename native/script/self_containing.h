// Refuses graphs that libtorch's optimizer doesn't terminate on.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace lta::script {

// Throws ERR_MODEL_RUN for a graph that adds a list to itself: libtorch's optimizer merges creating and filling a list
// into one node, which would be its own input, and then follows that cycle forever.
void refuseSelfContainingLists(const torch::jit::Graph& graph);

}  // namespace lta::script
