// Makes oneDNN fusion groups fall back to their unfused form within a run.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace lta::script {

// For a graph after libtorch's oneDNN pass: a fusion group whose kernel fails to compile or to run executes its unfused
// subgraph instead (libtorch's fuser is a prototype). That is safe: kernels pop their inputs only on success and write
// to nothing that the model sees.
void keepUnfusedForms(torch::jit::Block& block);

void registerFusedParts();

}  // namespace lta::script
