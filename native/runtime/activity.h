// Counts what is in flight for a model, for `settled()`. Knows nothing of models or of the executor.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace lta {

// Tasks that are queued, that run, and those they forked and nobody awaits. Thread-safe.
class Activity : public std::enable_shared_from_this<Activity> {
 public:
  // The activity lasts as long as the returned token lives.
  std::shared_ptr<const void> begin();
  // Calls `settled` once the count is zero: immediately, or on the thread that drops the last token. `settled` must not
  // throw.
  void whenSettled(std::function<void()> settled);

 private:
  void end();

  std::mutex mutex_;
  int count_ = 0;
  std::vector<std::function<void()>> waiting_;
};

}  // namespace lta
