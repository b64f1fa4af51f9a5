// The dispatch keys this addon registers kernels under, and their thread-local inclusion and exclusion.
#pragma once

#include <c10/core/DispatchKey.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace lta {

// Reserved by libtorch for tests: nothing but this addon registers kernels under them, and they precede all keys that
// compute. They cost nothing on threads that don't include them.
inline constexpr auto kProbeKey = c10::DispatchKey::TESTING_ONLY_GenericMode;   // captures (see capture/probe.h)
inline constexpr auto kRunKey = c10::DispatchKey::TESTING_ONLY_GenericWrapper;  // runs that may have to stop

// Include or exclude a key in the thread's dispatch while they live. at::ThreadLocalState propagates this to forked
// tasks and backward passes.
using IncludeDispatchKey = c10::impl::IncludeDispatchKeyGuard;
using ExcludeDispatchKey = c10::impl::ExcludeDispatchKeyGuard;

// The key set that a kernel under `key` redispatches with.
inline c10::DispatchKeySet keysBelow(c10::DispatchKey key, c10::DispatchKeySet keys) {
  return keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, key);
}

}  // namespace lta
