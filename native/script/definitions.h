// Parses code files by libtorch's parser.
#pragma once

#include <torch/csrc/jit/frontend/source_range.h>
#include <torch/csrc/jit/frontend/tree.h>

#include <functional>
#include <memory>

namespace lta::script {

// Calls `visit` with each top-level class and function, in order. Propagates the parser's exceptions.
void eachDefinition(const std::shared_ptr<torch::jit::Source>& source,
                    const std::function<void(const torch::jit::TreeRef&)>& visit);

}  // namespace lta::script
