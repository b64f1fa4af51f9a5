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

}  // namespace lta
