#pragma once

#include <chrono>
#include <thread>

namespace lta {

// Waits for what is likely to come within microseconds, without going to sleep: waking a sleeping thread, and the core
// it slept on, takes longer than that. Gives way to every other thread that wants to run. Tells whether it came.
template <typename Condition>
bool spinUntil(Condition condition) {
  constexpr auto kSoon = std::chrono::microseconds(100);
  const auto end = std::chrono::steady_clock::now() + kSoon;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace lta
