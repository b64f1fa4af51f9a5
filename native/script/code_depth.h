// Bounds the nesting of code before libtorch parses it.
#pragma once

#include <torch/csrc/jit/frontend/source_range.h>

#include <memory>

namespace lta::script {

// Throws ERR_MODEL_LOAD for code nested so deeply that libtorch's recursive parser and compiler would overflow the
// stack: expressions, blocks, chains of operators or of `elif`, runs of empty lines. Uses libtorch's own lexer, so that
// both agree on where strings and comments end.
void checkDepth(const std::shared_ptr<torch::jit::Source>& source);

}  // namespace lta::script
