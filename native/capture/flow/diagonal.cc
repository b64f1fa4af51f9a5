// Weights that a diagonal matrix scales.
#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "capture/flow/elements.h"
#include "capture/flow/flow.h"

namespace lta::flow {

// Whether a matrix scales what it multiplies, row by row or column by column. `own`: its dimension that isn't summed.
bool Flow::isDiagonal(const at::Tensor& tensor, int64_t own) const {
  if (own < 0 || tensor.dim() < 2 || tensor.size(-1) != tensor.size(-2) || tensor.size(-1) < 2) return false;
  if (isFixed(tensor) || tensor.layout() != at::kStrided || featureAlong(tensor, own)) return false;
  return hasOnlyDiagonal(tensor);
}

// Whether a diagonal matrix scaled weights, which go on. `own`: of the result, the dimension that is the diagonal's.
bool Flow::scaledByDiagonal(const std::string& name, const Operand& weights, const std::vector<int64_t>& ofWeights,
                            int64_t summed, const at::Tensor& other, const std::vector<int64_t>& ofOther, int64_t own,
                            const at::Tensor& result) {
  if (!weights || weights.value().stage != Stage::Weights || own < 0) return false;
  if (!isDiagonal(other, ofOther[static_cast<size_t>(own)])) return false;
  auto from = ofWeights;
  from[static_cast<size_t>(own)] = summed;
  Value value = weights.value();
  value.last = std::make_shared<Step>(name, value.last);
  value.version = ++versions_;
  value.normalized = kNone;
  value.kind = hasNegative(other) ? Kind::Signed : loosened(value.kind);
  follow(weights, result, from, std::vector<bool>(from.size(), false), /*combined=*/false, std::move(value));
  return true;
}

}  // namespace lta::flow
