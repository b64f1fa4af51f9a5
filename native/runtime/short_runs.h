// Which runs are so short that waiting for their ends on the event loop's thread is worth it: putting that to sleep and
// waking it takes 20 to 35 µs where the system halts idle cores.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>

#include "runtime/backoff.h"

namespace lta {

// How long a model's runs take, and whether waiting for their ends has been worth it.
class ShortRuns {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // Any thread: how long the last run took.
  void took(Duration duration) { last_ = duration.count(); }

  // Event loop's thread: whether to wait for the end of a run that begins now.
  bool worthWaiting() { return last_ <= kShort.count() && backoff_.allows(); }
  // The longest time to wait.
  Duration limit() const { return std::min(Duration(last_), kShort) * 2 + std::chrono::microseconds(20); }
  // Event loop's thread: whether the run ended while it was waited for. Where something else needs the cores it
  // doesn't.
  void waited(bool ended) { backoff_.tell(ended); }

 private:
  // What takes longer may compute on the core that waiting would take from it.
  static constexpr Duration kShort = std::chrono::microseconds(60);
  std::atomic<Duration::rep> last_{Duration::max().count()};
  Backoff backoff_;
};

}  // namespace lta
