#pragma once

#include <c10/core/DispatchKey.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace lta {

// The dispatch key that the probe's kernels are registered under; nothing else uses it.
inline constexpr auto kProbeKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

// While one lives, what its thread computes is its own affair and none of the model's attention: the probe doesn't see
// it, operators below it included. For what is computed beside a model, with a capture or without.
class Unseen {
 public:
  Unseen() : guard_(kProbeKey) {}
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;

 private:
  c10::impl::ExcludeDispatchKeyGuard guard_;
};

// The same for what a capture computes itself: no gradients and no autocast either.
class OwnComputation {
 public:
  OwnComputation() : noAutocast_(c10::autocast_dispatch_keyset) {}
  OwnComputation(const OwnComputation&) = delete;
  OwnComputation& operator=(const OwnComputation&) = delete;

 private:
  Unseen unseen_;
  c10::NoGradGuard noGrad_;
  c10::impl::ExcludeDispatchKeyGuard noAutocast_;
};

}  // namespace lta
