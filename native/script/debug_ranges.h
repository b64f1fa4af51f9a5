// Python's source lines for TorchScript traces. Never fails: ranges that can't be read are left out.
#pragma once

#include <torch/csrc/jit/serialization/source_range_serialization.h>

#include <memory>
#include <string>

namespace lta::script {

// Reads a `.debug_pkl`, the Python lines that a code file was compiled from, when an error trace first asks for them.
// Ranges outside of their source, which would crash libtorch, are dropped.
std::shared_ptr<torch::jit::SourceRangeUnpickler> debugRanges(std::string bytes);

}  // namespace lta::script
