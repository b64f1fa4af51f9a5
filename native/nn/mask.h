#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace lta::nn {

// A mask of attention as modules hand it on: what is added to the scores. Users give either that or a boolean tensor
// that is true where a key must not be seen.
class Mask {
 public:
  Mask() = default;
  // An undefined tensor gives an undefined mask. `type` is that of the scores.
  Mask(const at::Tensor& given, at::ScalarType type);

  bool defined() const { return added_.defined(); }
  const at::Tensor& added() const { return added_; }
  // Whether it was given as a boolean tensor.
  bool boolean() const { return boolean_; }
  // The same, as if it had been given in the form that is added.
  Mask asAdded() const;

  // Whether it does nothing but hide keys (holds 0 and -inf only). Fused kernels know no other masks: they would hide
  // every key whose score it shifts.
  bool onlyHides() const;
  // True where a key is hidden. For masks that only hide.
  at::Tensor hidden() const;

 private:
  at::Tensor added_;
  at::Tensor hidden_;  // as given, or once it was asked for
  bool boolean_ = false;
  mutable std::optional<bool> onlyHides_;
};

// Whether a mask as given is exactly the causal one of `size` positions.
bool isCausalMask(const at::Tensor& mask, int64_t size);

}  // namespace lta::nn
