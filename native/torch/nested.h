// Nested tensors: what their public API lacks.
#pragma once

#include <ATen/core/Tensor.h>

namespace lta {

// The sizes of the constituent tensors, [count, dimensions of each], on the CPU.
at::Tensor sizesOfNested(const at::Tensor& nested);

}  // namespace lta
