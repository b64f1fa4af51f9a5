#pragma once

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <memory>

#include "attention/capture.h"

namespace lta {

// The attention operators of libtorch are watched by kernels registered under a dispatch key that nothing else uses.
// The key takes part in a thread's dispatch only while one of these lives; without it the kernels cost nothing. Both
// the key and the capture follow the model into threads that it forks.
class ProbeScope {
 public:
  explicit ProbeScope(std::shared_ptr<Capture> capture);
  ProbeScope(const ProbeScope&) = delete;
  ProbeScope& operator=(const ProbeScope&) = delete;

 private:
  c10::DebugInfoGuard info_;
  c10::impl::IncludeDispatchKeyGuard key_;
};

// While one lives, what its thread computes is its own affair and none of the model's attention: the probe doesn't see
// it, operators below it included. For what is computed beside a model, with a capture or without.
class Unseen {
 public:
  Unseen();
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;

 private:
  c10::impl::ExcludeDispatchKeyGuard guard_;
};

// For a model that returns `weights` beside what a fused kernel gave for them, `output`: where gradients by the weights
// are captured, what depends on these counts too. Gives the weights that are to go on (the same bits).
at::Tensor returnedBeside(const at::Tensor& output, const at::Tensor& weights);

}  // namespace lta
