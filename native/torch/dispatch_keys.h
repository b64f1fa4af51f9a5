#pragma once

#include <c10/core/DispatchKey.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace lta {

// Dispatch keys that libtorch keeps for tests: nothing registers kernels under them but this addon, and they are above
// all keys that compute. Kernels under one cost nothing on threads that don't include it.
inline constexpr auto kProbeKey = c10::DispatchKey::TESTING_ONLY_GenericMode;   // of captures (see capture/probe.h)
inline constexpr auto kRunKey = c10::DispatchKey::TESTING_ONLY_GenericWrapper;  // of runs that may have to stop

// While one lives, the key takes part in the dispatch of its thread, or doesn't. libtorch's own thread-local state
// takes it along to what the thread forks and to backward passes.
using IncludeDispatchKey = c10::impl::IncludeDispatchKeyGuard;
using ExcludeDispatchKey = c10::impl::ExcludeDispatchKeyGuard;

// The keys that a kernel under `key` redispatches to.
inline c10::DispatchKeySet keysBelow(c10::DispatchKey key, c10::DispatchKeySet keys) {
  return keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, key);
}

}  // namespace lta
