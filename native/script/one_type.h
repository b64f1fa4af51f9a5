#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/ir/ir.h>

namespace lta::script {

// Makes a program that was exported in one floating-point type run in another: parameters, buffers and constants are
// converted when it is loaded, but it may still cast to the first type or make tensors of it, wherever it likes.
// Operators that compute with any two types do so, as in Python; those that want all their tensors in one (products,
// convolutions, attention, normalizations) get them in `type`. What isn't floating point keeps its type.
void demandOneType(torch::jit::Graph& graph, at::ScalarType type);

void registerTypeConversions();

}  // namespace lta::script
