// Run-local objects: thread-local debug information, which at::ThreadLocalState propagates to forked tasks and backward
// passes.
#pragma once

#include <c10/util/ThreadLocalDebugInfo.h>

namespace lta {

// An object that every thread of a run sees.
using RunLocal = c10::DebugInfoBase;

// One slot per object. No supported libtorch release uses these three itself.
inline const auto kCancellationSlot = c10::DebugInfoKind::PRODUCER_INFO;
inline const auto kHookSlot = c10::DebugInfoKind::TEST_INFO;
inline const auto kCaptureSlot = c10::DebugInfoKind::TEST_INFO_2;

// RunLocalScope(slot, object): sets a slot of the calling thread while it lives.
using RunLocalScope = c10::DebugInfoGuard;

// The object in a slot of the calling thread, of type `T`; null for none.
template <typename T>
T* runLocal(c10::DebugInfoKind slot) {
  return static_cast<T*>(c10::ThreadLocalDebugInfo::get(slot));
}

}  // namespace lta
