// Spins briefly before a thread sleeps.
#pragma once

#include <chrono>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace lta {

// Tells the core that the thread is only waiting.
inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  asm volatile("yield");
#endif
}

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

// The same up to `limit` and without yielding: for conditions that hold sooner than another thread, once it has the
// core, gives it back.
template <typename Condition>
bool pauseUntil(Condition condition, std::chrono::steady_clock::duration limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    relax();
  }
  return true;
}

}  // namespace lta
