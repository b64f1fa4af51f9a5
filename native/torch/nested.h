#pragma once

#include <ATen/core/Tensor.h>

namespace lta {

// The sizes of the tensors in a nested one, [count, dimensions of each], on the CPU.
at::Tensor sizesOfNested(const at::Tensor& nested);

}  // namespace lta
