#include "capture/flow/elements.h"

#include <ATen/ATen.h>

#include "torch/own_computation.h"

namespace lta::flow {

bool hasNegative(const at::Tensor& tensor) {
  if (tensor.is_complex() || tensor.layout() != at::kStrided) return true;
  if (tensor.numel() == 0 || tensor.scalar_type() == at::kBool) return false;
  const OwnComputation own;
  return tensor.lt(0).any().item<bool>();
}

bool areMarks(const at::Tensor& tensor) {
  if (tensor.is_complex() || tensor.layout() != at::kStrided || tensor.numel() == 0) return false;
  const OwnComputation own;
  return !tensor.ne(0).logical_and(tensor.ne(1)).any().item<bool>();
}

bool hasOnlyDiagonal(const at::Tensor& tensor) {
  const OwnComputation own;
  // Most have something there.
  if (tensor.select(-1, 1).select(-1, 0).any().item<bool>()) return false;
  return !tensor.masked_fill(at::eye(tensor.size(-1), tensor.options().dtype(at::kBool)), 0).any().item<bool>();
}

}  // namespace lta::flow
