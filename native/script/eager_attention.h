// Attention that a graph computes operator by operator.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace lta::script {

// Whether a capture may record or list what the operators of a graph compute one by one: whatever compiles some of them
// into a kernel hides it. Fused attention operators alone are none, nor are softmaxes over the classes that a layer
// made, masks that are given, and gates ahead of a layer.
bool hasEagerAttention(torch::jit::Graph& graph);

}  // namespace lta::script
