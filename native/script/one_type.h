// Casts operands where an exported program mixes floating-point types after a load with `dtype`.
#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/ir/ir.h>

namespace lta::script {

// Loading with `dtype` converts parameters, buffers and constants, but the program may still cast to its original type
// or create tensors of it. Operators that promote types keep doing so, as in Python; those that require one type for
// all tensors (products, convolutions, attention, normalizations) get floating-point operands cast to `type`.
void unifyOperandTypes(torch::jit::Graph& graph, at::ScalarType type);

void registerTypeConversions();

}  // namespace lta::script
