#pragma once

#include <c10/core/GradMode.h>

#include "torch/dispatch_keys.h"

namespace lta {

// While one lives, the probe doesn't see what its thread computes, operators below that included: for what is computed
// beside a model, with a capture or without.
class ProbeSuspended {
 public:
  ProbeSuspended() : guard_(kProbeKey) {}
  // Whether one lives on the calling thread.
  static bool now() { return c10::impl::tls_is_dispatch_key_excluded(kProbeKey); }
  ProbeSuspended(const ProbeSuspended&) = delete;
  ProbeSuspended& operator=(const ProbeSuspended&) = delete;

 private:
  ExcludeDispatchKey guard_;
};

// The same for what a capture computes itself: without gradients and without autocast as well.
class OwnComputation {
 public:
  OwnComputation() : noAutocast_(c10::autocast_dispatch_keyset) {}
  OwnComputation(const OwnComputation&) = delete;
  OwnComputation& operator=(const OwnComputation&) = delete;

 private:
  ProbeSuspended suspended_;
  c10::NoGradGuard noGrad_;
  ExcludeDispatchKey noAutocast_;
};

}  // namespace lta
