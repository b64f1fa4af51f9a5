// Refuses type annotations that crash libtorch's compiler.
#pragma once

#include <torch/csrc/jit/frontend/source_range.h>

#include <memory>

namespace lta::script {

// Throws ERR_MODEL_LOAD for a list literal whose declared type has no element type (`Any`, `list`, or a union with one
// of them): the compiler would dereference null. The code must have passed checkDepth.
void checkTypeHints(const std::shared_ptr<torch::jit::Source>& source);

}  // namespace lta::script
