// Spins briefly before a thread sleeps.
#pragma once

#include <chrono>
#include <thread>

namespace lta {

// Waits up to 100 µs for a condition that is likely to hold within microseconds: waking a sleeping thread, and its
// core, takes longer. Yields to other runnable threads. Returns true if the condition holds.
template <typename Condition>
bool spinUntil(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace lta
