// Which runs are so short that waiting for their ends on the event loop's thread is worth it: putting that to sleep and
// waking it takes 20 to 35 µs where the system halts idle cores.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace lta {

// How long a model's runs take, and whether waiting for their ends has been worth it.
class ShortRuns {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // Any thread: how long the last run took.
  void took(Duration duration) { last_ = duration.count(); }

  // Event loop's thread: whether to wait for the end of a run that begins now.
  bool worthWaiting();
  // The longest time to wait.
  Duration limit() const;
  // Event loop's thread: whether the run ended while it was waited for. Where something else needs the cores it
  // doesn't: each wait in vain puts off the next one, for twice as many runs as the last.
  void waited(bool ended);

 private:
  std::atomic<Duration::rep> last_{Duration::max().count()};
  // Event loop's thread only.
  int64_t skipped_ = 0;  // runs not to be waited for from now on
  int64_t pause_ = kShortestPause;

  static constexpr int64_t kShortestPause = 16;
};

}  // namespace lta
