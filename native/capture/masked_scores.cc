#include "capture/masked_scores.h"

#include <ATen/ATen.h>

#include <limits>

#include "torch/nested.h"
#include "torch/own_computation.h"

namespace lta {
namespace {

constexpr auto kNone = -std::numeric_limits<double>::infinity();

}  // namespace

at::Tensor maskedScores(const at::Tensor& scores, const at::Tensor& mask, std::optional<int64_t> maskType) {
  const OwnComputation own;
  auto hidden = mask;
  if (maskType == 1 && mask.dim() == 2 && scores.dim() > 2) {
    std::vector<int64_t> sizes(static_cast<size_t>(scores.dim()), 1);
    sizes.front() = mask.size(0);
    sizes.back() = mask.size(1);
    hidden = mask.view(sizes);
  }
  return scores.masked_fill(hidden, kNone);
}

at::Tensor paddedScores(const at::Tensor& scores, const at::Tensor& query) {
  const OwnComputation own;
  const auto lengths = sizesOfNested(query).select(1, 0).to(scores.device());
  const auto there = at::arange(scores.size(-1), lengths.options()).unsqueeze(0).lt(lengths.unsqueeze(1));  // [B, L]
  const auto both = there.unsqueeze(1).unsqueeze(3).logical_and(there.unsqueeze(1).unsqueeze(2));
  return scores.masked_fill(both.logical_not(), kNone);
}

}  // namespace lta
