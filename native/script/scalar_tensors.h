// Numbers and tensors without dimensions, which take part differently in the promotion of types.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace lta::script {

// Traces have Python's numbers as constant tensors. libtorch's executors make numbers of them where they stand beside
// sums, products and quotients, but neither before anything is folded nor where they don't optimize: this does it
// ahead of both.
void makeNumbers(std::shared_ptr<torch::jit::Graph>& graph);

// Keeps the executors from taking what folding has made of tensors for numbers.
void keepScalarTensors(std::shared_ptr<torch::jit::Graph>& graph);

}  // namespace lta::script
