#include "nn/mask.h"

#include <ATen/ATen.h>

#include <limits>

namespace lta::nn {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

}  // namespace

Mask::Mask(const at::Tensor& given, at::ScalarType type) {
  if (!given.defined()) return;
  if (given.scalar_type() == at::kBool) {
    boolean_ = true;
    onlyHides_ = true;
    hidden_ = given;
    added_ = at::zeros_like(given, given.options().dtype(type)).masked_fill_(given, kHidden);
  } else {
    added_ = given;
  }
}

Mask Mask::asAdded() const {
  Mask mask = *this;
  mask.boolean_ = false;
  return mask;
}

bool Mask::onlyHides() const {
  if (!onlyHides_) onlyHides_ = added_.eq(0).logical_or_(added_.eq(kHidden)).all().item<bool>();
  return *onlyHides_;
}

at::Tensor Mask::hidden() const { return hidden_.defined() ? hidden_ : added_.to(at::kBool); }

bool isCausalMask(const at::Tensor& mask, int64_t size) {
  if (mask.dim() != 2 || mask.size(0) != size || mask.size(1) != size) return false;
  const auto causal = at::full({size, size}, kHidden, mask.options().dtype(at::kFloat)).triu_(1);
  return mask.scalar_type() == at::kBool ? mask.equal(causal.to(at::kBool)) : mask.equal(causal.to(mask.scalar_type()));
}

}  // namespace lta::nn
