#pragma once

#include <torch/csrc/jit/frontend/source_range.h>

#include <memory>

namespace lta::script {

// Refuses code in which a list literal stands where a type is declared that has no elements (`Any`, `list`, or a union
// with one of them): libtorch's compiler looks for the type of its elements there and dereferences null. Throws
// ERR_MODEL_LOAD. The code was checked by checkDepth.
void checkTypeHints(const std::shared_ptr<torch::jit::Source>& source);

}  // namespace lta::script
