#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace lta::script {

// For a graph that libtorch's pass for oneDNN Graph has fused: has each fused part run its own unfused form where its
// kernel can't be compiled or fails (libtorch's fuser is a prototype), within the same run. Kernels take their inputs
// off the stack only when they have succeeded, and write into none that a model can see.
void keepUnfusedForms(torch::jit::Block& block);

void registerFusedParts();

}  // namespace lta::script
