#pragma once

#include <c10/util/ThreadLocalDebugInfo.h>

namespace lta {

// What belongs to a run on whichever thread works for it: libtorch's thread-local debug information, which
// at::ThreadLocalState takes along to the threads that a model forks and to those of a backward pass.
using RunLocal = c10::DebugInfoBase;

// Its slots, one object each. libtorch itself sets none of these three in any release that is served.
inline const auto kCancellationSlot = c10::DebugInfoKind::PRODUCER_INFO;
inline const auto kHookSlot = c10::DebugInfoKind::TEST_INFO;
inline const auto kCaptureSlot = c10::DebugInfoKind::TEST_INFO_2;

// While one lives, the calling thread has an object in a slot: RunLocalScope(slot, object).
using RunLocalScope = c10::DebugInfoGuard;

// What the calling thread has in a slot; null where there is nothing. `T` is what was put there.
template <typename T>
T* runLocal(c10::DebugInfoKind slot) {
  return static_cast<T*>(c10::ThreadLocalDebugInfo::get(slot));
}

}  // namespace lta
