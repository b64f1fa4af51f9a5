// Kernels that tell a capture what a model computes.
#pragma once

#include <memory>

#include "capture/capture.h"
#include "torch/own_computation.h"
#include "torch/run_local.h"

namespace lta {

// The attention operators of libtorch, and all that write, are watched by kernels registered under a dispatch key that
// nothing else uses. The key takes part in a thread's dispatch only while one of these lives; without it the kernels
// cost nothing. Both the key and the capture follow the model into threads that it forks.
class ProbeScope {
 public:
  explicit ProbeScope(std::shared_ptr<Capture> capture);
  ProbeScope(const ProbeScope&) = delete;
  ProbeScope& operator=(const ProbeScope&) = delete;

 private:
  RunLocalScope info_;
  IncludeDispatchKey key_;
};

// Registers the probe's kernels, once a process. Throws c10::Error where another copy of this code has done so.
void registerProbe();

// For a model that returns `weights` beside what a fused kernel gave for them, `output`: where gradients by the weights
// are captured, what depends on these counts too. Gives the weights to continue with (bit-identical).
at::Tensor returnedBeside(const at::Tensor& output, const at::Tensor& weights);

}  // namespace lta
