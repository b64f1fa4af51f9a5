#pragma once

#include <torch/csrc/jit/frontend/source_range.h>

#include <memory>

namespace lta::script {

// Refuses code that is nested so deep that libtorch's parser and compiler, which call themselves for each level, would
// run out of stack: expressions, blocks, chains of operators, of `elif`, of lines without anything. Throws
// ERR_MODEL_LOAD. The code is read by libtorch's own lexer, so that there are no two opinions about where a string or a
// comment ends.
void checkDepth(const std::shared_ptr<torch::jit::Source>& source);

}  // namespace lta::script
