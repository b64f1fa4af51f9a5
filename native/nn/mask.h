// Attention masks, boolean and additive.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace lta::nn {

// A mask in additive form. Users pass that, or a boolean tensor that is true for hidden keys.
class Mask {
 public:
  Mask() = default;
  // `type`: that of the attention scores. An undefined tensor gives an undefined mask.
  Mask(const at::Tensor& given, at::ScalarType type);

  bool defined() const { return added_.defined(); }
  const at::Tensor& added() const { return added_; }
  // Whether it was passed as a boolean tensor.
  bool boolean() const { return boolean_; }
  // The same mask as if it had been passed in additive form.
  Mask asAdded() const;

  // Whether it only hides keys (contains only 0 and -inf). Fused kernels treat every nonzero entry as hidden, so they
  // must not get other masks.
  bool onlyHides() const;
  // True for hidden keys. Only if onlyHides().
  at::Tensor hidden() const;

 private:
  at::Tensor added_;
  at::Tensor hidden_;  // as passed; undefined for additive masks
  bool boolean_ = false;
  mutable std::optional<bool> onlyHides_;
};

// Whether a mask, as passed, is exactly the causal one of `size` positions.
bool isCausalMask(const at::Tensor& mask, int64_t size);

}  // namespace lta::nn
