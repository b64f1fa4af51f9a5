// Spins briefly before a thread sleeps: waking it, and its core, takes longer than what it waits for.
#pragma once

#include <chrono>

namespace lta {

// Waits up to `limit`, without yielding to other threads, for something that another core does. Returns true if the
// condition holds.
template <typename Condition>
bool pauseUntil(Condition condition, std::chrono::steady_clock::duration limit);

// Waits up to 100 µs for something that another thread does, perhaps on this core: yields to it. Where yielding gives
// the core to what keeps it for longer, this becomes rare: a thread that sleeps has it back as soon as it is woken.
// Returns true if the condition holds.
template <typename Condition>
bool spinUntil(Condition condition);

// Whether this process has a single core, on which nothing can happen while a thread spins.
bool onOneCore();

namespace detail {

void relax();  // tells the core that the thread only waits
// Whether yielding is likely to give the core back soon; the caller tells whether it did.
bool mayYield();
void tellYields(bool quick);
// Yields; returns false if that took so long that something else needs the core.
bool yield();

}  // namespace detail

template <typename Condition>
bool pauseUntil(Condition condition, std::chrono::steady_clock::duration limit) {
  if (onOneCore()) return condition();
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    detail::relax();
  }
  return true;
}

template <typename Condition>
bool spinUntil(Condition condition) {
  // Most of what is waited for comes at once, and each yield is a system call.
  if (pauseUntil(condition, std::chrono::microseconds(8))) return true;
  if (!detail::mayYield()) return pauseUntil(condition, std::chrono::microseconds(30));
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
  bool quick = true;
  while (!condition() && quick && std::chrono::steady_clock::now() < end) quick = detail::yield();
  detail::tellYields(quick);
  return condition();
}

}  // namespace lta
