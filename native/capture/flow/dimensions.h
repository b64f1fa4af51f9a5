// Dimensions of tensors, as operators name them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <numeric>
#include <vector>

namespace lta::flow {

// A dimension as a position from the beginning.
inline int64_t wrapped(int64_t dim, int64_t dims) { return dim < 0 ? dim + dims : dim; }

// Each dimension itself.
inline std::vector<int64_t> identity(int64_t dims) {
  std::vector<int64_t> from(static_cast<size_t>(dims));
  std::iota(from.begin(), from.end(), 0);
  return from;
}

// The dimension of a result that aligns with one of an operand that is broadcast to it.
inline int64_t aligned(const at::Tensor& operand, const at::Tensor& result, int64_t resultDim) {
  return resultDim - (result.dim() - operand.dim());
}

}  // namespace lta::flow
