#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>

#include "runtime/error.h"

namespace lta {

class MemoryBudget;

// What a run may take at most; absent: anything.
struct RunLimits {
  std::optional<std::chrono::nanoseconds> time;  // from the start of execution
  std::optional<int64_t> memory;                 // bytes of tensors that it holds at once
};

// A task's slot among those that run at a time (see admission_policy.h).
struct Slot;

// Whether a run is to stop: because its caller asks for it, because the environment that it belongs to ends, or because
// it has reached a limit. Set from any thread; a running model looks at it wherever it can stop.
class Cancellation {
 public:
  // `ended` tells that the environment ends; `mayBeRequested`, that somebody can call `request`.
  explicit Cancellation(std::shared_ptr<const std::atomic<bool>> ended = nullptr, RunLimits limits = {},
                        bool mayBeRequested = true);

  // That of the run that the calling thread takes part in (see run_scope.h); none outside.
  static Cancellation* current();

  // Also gives up the slot that the run holds in the executor: what it still does isn't waited for.
  void request() noexcept;
  // Whether the run is to stop at the next point where it can.
  bool requested() const noexcept;
  // Throws Cancelled, ERR_TIME_LIMIT or ERR_MEMORY_LIMIT where it is.
  void check();
  // The same on the back edge of a loop, where memory that no operator asks for may have grown.
  void checkLoop();
  // Ends the run with an error of its own; throws it.
  [[noreturn]] void stop(std::exception_ptr reason);
  // What the run was stopped with, if it was. libtorch makes other exceptions of what passes it.
  std::exception_ptr stopped() const;

  // The start of execution, on the thread that executes: time counts from here. `slot` is its own in the executor.
  void begin(std::shared_ptr<Slot> slot = nullptr);
  std::shared_ptr<Slot> slot() const;

  // Whether somebody may want the run to stop between any two operators.
  bool watchesOperators() const noexcept { return mayBeRequested_ || limits_.time.has_value(); }
  const std::shared_ptr<MemoryBudget>& memory() const { return memory_; }

 private:
  bool timeIsUp() const noexcept;

  const std::shared_ptr<const std::atomic<bool>> ended_;
  const RunLimits limits_;
  const bool mayBeRequested_;
  const std::shared_ptr<MemoryBudget> memory_;
  std::atomic<bool> requested_{false};
  std::atomic<bool> isStopped_{false};
  std::atomic<int64_t> deadline_{INT64_MAX};  // of the steady clock, in nanoseconds
  mutable std::mutex mutex_;
  std::exception_ptr stopped_;
  std::shared_ptr<Slot> slot_;
  bool begun_ = false;
};

using CancellationPtr = std::shared_ptr<Cancellation>;

}  // namespace lta
