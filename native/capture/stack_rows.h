// Matrices of several forwards below each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lta {

// The rows of several matrices below each other, [..., Σ Q, longest K], on the device of the first: those with fewer
// keys are filled up on the right. `parts`: at least one, [..., Q, K], alike in type and in what stands before Q.
at::Tensor stackRows(const std::vector<at::Tensor>& parts, double fill);

}  // namespace lta
