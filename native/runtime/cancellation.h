#pragma once

#include <atomic>
#include <memory>

#include "runtime/error.h"

namespace lta {

// A flag that the event loop's thread sets and that a running model looks at wherever it can stop.
class Cancellation {
 public:
  void request() noexcept { requested_.store(true, std::memory_order_relaxed); }
  bool requested() const noexcept { return requested_.load(std::memory_order_relaxed); }
  void check() const {
    if (requested()) throw Cancelled();
  }

 private:
  std::atomic<bool> requested_{false};
};

using CancellationPtr = std::shared_ptr<Cancellation>;

}  // namespace lta
