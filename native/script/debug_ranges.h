#pragma once

#include <torch/csrc/jit/serialization/source_range_serialization.h>

#include <memory>
#include <string>

namespace lta::script {

// The lines of Python that a file of an archive's code was compiled from (`.debug_pkl`), which libtorch shows in the
// traces of errors. Read when they are asked for. Ranges that point outside their source, on which libtorch would fail,
// are none.
std::shared_ptr<torch::jit::SourceRangeUnpickler> debugRanges(std::string bytes);

}  // namespace lta::script
