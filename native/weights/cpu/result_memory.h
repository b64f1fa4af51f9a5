#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lta {

// A CPU tensor for a result, its elements undefined. Large ones lie on huge pages where the system gives them: filling
// memory that the process didn't have yet otherwise costs more than computing what goes into it.
// A run with a memory limit is stopped where it has no room for it.
at::Tensor emptyResult(at::IntArrayRef sizes, at::ScalarType dtype);

// Gives back to the system what waits for the next results: memory of results that were freed, and what threads keep
// for intermediate ones.
void releaseMemory();

}  // namespace lta
