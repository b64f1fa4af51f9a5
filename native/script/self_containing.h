#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace lta::script {

// Refuses (ERR_MODEL_RUN) a graph that puts a list into itself: libtorch's optimizer makes one operator of making a
// list and filling it, here one whose input is its own output, and then follows that without end.
void refuseListsInThemselves(const torch::jit::Graph& graph);

}  // namespace lta::script
