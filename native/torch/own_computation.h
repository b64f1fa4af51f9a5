// Scopes for operators that this addon runs itself, beside the model's.
#pragma once

#include <c10/core/GradMode.h>

#include "torch/dispatch_keys.h"

namespace lta {

// The probe doesn't see operators of this thread, nested ones included, whether or not a capture runs.
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

// The same for a capture's own computation: without gradients and autocast as well.
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
