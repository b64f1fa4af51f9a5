#include "runtime/team.h"

#include <ATen/Parallel.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "runtime/spin.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace lta {
namespace {

// Waking a thread on a core that the system halted takes 20 to 150 µs.
constexpr auto kLongestWake = std::chrono::microseconds(500);

int currentCore() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// Whether more threads run on this system than it has cores: who moves to another core waits for its turn there, too.
bool areCoresTaken() {
  int running = 0;
  std::string average;
  std::ifstream file("/proc/loadavg");  // of one, five and fifteen minutes, then how many run now
  file >> average >> average >> average >> running;
  static const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  return running > cores;
}

}  // namespace

void moveToAnotherCore() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  auto others = allowed;
  const int here = currentCore();
  if (here < 0 || here >= CPU_SETSIZE) return;
  CPU_CLR(here, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
  sched_setaffinity(0, sizeof(allowed), &allowed);
#endif
}

void wakeTeam(int threads) {
  if (areCoresTaken()) return;
  std::atomic<int> awake{0};
  const int core = currentCore();
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t) {
    if (begin != 0) {
      // It may have taken the core from the caller.
      if (core >= 0 && currentCore() == core) moveToAnotherCore();
      ++awake;
    } else if (!pauseUntil([&] { return awake.load(std::memory_order_relaxed) >= threads - 1; }, kLongestWake)) {
      moveToAnotherCore();  // it may be waiting for this one
    }
  });
}

}  // namespace lta
