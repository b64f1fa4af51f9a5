#include "runtime/crew.h"

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "runtime/shared_tasks.h"

TEST("a loop that a crew shares runs each task once, however many threads take part") {
  for (const int64_t threads : {1, 2, 5}) {
    const lta::Crew::Scope scope(threads);
    EXPECT(lta::threadsOfLoops() == threads);
    for (int64_t repeat = 0; repeat < 200; ++repeat) {
      std::vector<std::atomic<int>> ran(37);
      lta::shareTasks(37, threads, [&](int64_t task) { ++ran[static_cast<size_t>(task)]; });
      for (const auto& count : ran) EXPECT(count == 1);
    }
  }
  EXPECT(lta::Crew::threadsHere() == 0);
}

TEST("the threads of a crew take part in a loop that takes long") {
  const lta::Crew::Scope scope(3);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  lta::shareTasks(60, 3, [&](int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const std::lock_guard<std::mutex> lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  EXPECT(threads.size() == 3);
}

TEST("what a task of a crew throws is thrown by the loop, which the next one doesn't notice") {
  const lta::Crew::Scope scope(2);
  for (int64_t failing : {0, 19}) {
    std::atomic<int> after{0};
    bool thrown = false;
    try {
      lta::shareTasks(20, 2, [&](int64_t task) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        if (task == failing) throw std::runtime_error("a task");
      });
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    EXPECT(thrown);
    lta::shareTasks(20, 2, [&](int64_t) { ++after; });
    EXPECT(after == 20);
  }
}
