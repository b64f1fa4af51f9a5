// What only the numbers in a tensor tell, of one that isn't followed.
#pragma once

#include <ATen/core/Tensor.h>

namespace lta::flow {

// Whether some are negative, or may be: as where it scales weights.
bool hasNegative(const at::Tensor& tensor);

// Whether all are one or zero.
bool areMarks(const at::Tensor& tensor);

// Whether the last two dimensions, which are of one size, have nothing but zeros beside their diagonal.
bool hasOnlyDiagonal(const at::Tensor& tensor);

}  // namespace lta::flow
