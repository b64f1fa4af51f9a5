#include "runtime/team.h"

#include <ATen/Parallel.h>
#include <sched.h>

#include <atomic>
#include <thread>

#include "check.h"
#include "runtime/spin.h"
#include "torch/threads.h"

TEST("a thread that moves is on another core, and may go on using all that it could") {
  std::thread([] {
    cpu_set_t before, after;
    EXPECT(sched_getaffinity(0, sizeof(before), &before) == 0);
    const int core = sched_getcpu();
    lta::moveToAnotherCore();
    if (!lta::onOneCore()) EXPECT(sched_getcpu() != core || CPU_COUNT(&before) == 1);
    EXPECT(sched_getaffinity(0, sizeof(after), &after) == 0);
    EXPECT(CPU_EQUAL(&before, &after));
    // With one core allowed there is no other.
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    EXPECT(sched_setaffinity(0, sizeof(one), &one) == 0);
    lta::moveToAnotherCore();
    EXPECT(sched_getaffinity(0, sizeof(after), &after) == 0);
    EXPECT(CPU_EQUAL(&one, &after));
  }).join();
}

TEST("a team is woken, and computes as before") {
  std::thread([] {
    lta::initialiseIntraOpThreads();
    at::set_num_threads(2);
    for (int turn = 0; turn < 3; ++turn) {
      lta::wakeTeam(2);
      std::atomic<int64_t> sum{0};
      at::parallel_for(0, 1000, 1, [&](int64_t begin, int64_t end) {
        for (auto i = begin; i < end; ++i) sum += i;
      });
      EXPECT(sum == 499500);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }).join();
}
