#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lta {

// A CPU tensor for a result, its elements undefined. Large ones lie on huge pages where the system gives them: filling
// memory that the process didn't have yet otherwise costs more than computing what goes into it.
at::Tensor emptyResult(at::IntArrayRef sizes, at::ScalarType dtype);

}  // namespace lta
