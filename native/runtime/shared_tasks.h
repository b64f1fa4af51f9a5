// Loops over tasks on several threads, as `at::parallel_for`, each of which helps the others where it is done first.
// The threads are libtorch's, or the crew's where that works for the calling one.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "runtime/crew.h"

namespace lta {

// The most threads that loops of the calling thread may use.
inline int64_t threadsOfLoops() {
  const auto crew = Crew::threadsHere();
  return crew > 0 ? crew : at::get_num_threads();
}

// Runs `run(task)` for 0 … count - 1 on up to `threads` threads. Each begins with its own share of tasks that follow
// one another, so that what one loop leaves in a core's cache is there for the next.
template <typename Run>
void shareTasks(int64_t count, int64_t threads, const Run& run) {
  threads = std::min(threads, count);
  if (threads <= 1) {
    for (int64_t task = 0; task < count; ++task) run(task);
    return;
  }
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  std::vector<Share> shares(static_cast<size_t>(threads));
  for (int64_t i = 0; i < threads; ++i) {
    shares[static_cast<size_t>(i)].next = count * i / threads;
    shares[static_cast<size_t>(i)].end = count * (i + 1) / threads;
  }
  const auto work = [&](int64_t own) {
    for (int64_t i = 0; i < threads; ++i) {
      auto& share = shares[static_cast<size_t>((own + i) % threads)];
      for (int64_t task = 0; (task = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) run(task);
    }
  };
  if (Crew::threadsHere() > 0) return Crew::instance().run(threads, work);
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t own = begin; own < end; ++own) work(own);
  });
}

}  // namespace lta
