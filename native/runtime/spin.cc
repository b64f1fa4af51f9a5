#include "runtime/spin.h"

#include <thread>

#include "runtime/backoff.h"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace lta {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than any thread of our own keeps the core ahead of what is waited for.
constexpr auto kSlow = std::chrono::microseconds(300);

thread_local Backoff yields;

bool hasOneCore() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed) == 1;
#endif
  return std::thread::hardware_concurrency() == 1;
}

}  // namespace

bool onOneCore() {
  static const bool one = hasOneCore();
  return one;
}

namespace detail {

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  asm volatile("yield");
#endif
}

bool mayYield() { return !onOneCore() && yields.allows(); }
void tellYields(bool quick) { yields.tell(quick); }

bool yield() {
  const auto began = Clock::now();
  std::this_thread::yield();
  return Clock::now() - began < kSlow;
}

}  // namespace detail
}  // namespace lta
