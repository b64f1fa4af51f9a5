#pragma once

#include <torch/csrc/jit/frontend/source_range.h>
#include <torch/csrc/jit/frontend/tree.h>

#include <functional>
#include <memory>

namespace lta::script {

// Parses a file of code by libtorch's own parser: calls `take` with each class and function at its top level, in order.
// Throws what the parser throws.
void eachDefinition(const std::shared_ptr<torch::jit::Source>& source,
                    const std::function<void(const torch::jit::TreeRef&)>& take);

}  // namespace lta::script
