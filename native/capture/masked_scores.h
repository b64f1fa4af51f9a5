// Scores of softmaxes that mask by themselves.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

// What softmaxes that mask for themselves are of: a softmax of this, without any mask, gives what they gave.
namespace lta {

// Of _masked_softmax; its numbers for a mask's form are 0 for [Q, K], 1 for [B, K], 2 for the scores' own shape.
at::Tensor maskedScores(const at::Tensor& scores, const at::Tensor& mask, std::optional<int64_t> maskType);

// Of _nested_tensor_softmax_with_shape: scores [B, H, L, L] of a batch whose sequences are as long as those of the
// jagged query. What doesn't exist is masked.
at::Tensor paddedScores(const at::Tensor& scores, const at::Tensor& query);

}  // namespace lta
