// Why and when a run stops: its caller, its environment, its limits. Knows nothing of operators (see run_scope.h).
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

// Limits of a run; absent: none.
struct RunLimits {
  std::optional<std::chrono::nanoseconds> time;  // from the start of execution
  std::optional<int64_t> memory;                 // bytes of tensors held at once
};

// See admission_policy.h.
struct Slot;

// Whether a run has to stop: its caller requested it, its environment ends, or a limit is reached. Thread-safe; the run
// polls it wherever it can stop.
class Cancellation : public std::enable_shared_from_this<Cancellation> {
 public:
  // `ended` is set when the environment ends. `mayBeRequested`: somebody can call `request`.
  explicit Cancellation(std::shared_ptr<const std::atomic<bool>> ended = nullptr, RunLimits limits = {},
                        bool mayBeRequested = true);

  // The cancellation of the run that the calling thread works for (see run_scope.h); null outside of runs.
  static Cancellation* current();

  // Also releases the run's slot in the executor: nobody waits for what it still does.
  void request() noexcept;
  // Whether the run stops at its next check.
  bool requested() const noexcept;
  // Throws Cancelled, ERR_TIME_LIMIT or ERR_MEMORY_LIMIT if it is.
  void check();
  // The same for the back edge of a loop, where memory outside of tensors may have grown.
  void checkLoop();
  // Stops the run with `reason`, or with the first reason if it is stopped already, and throws that.
  [[noreturn]] void stop(std::exception_ptr reason);
  // The reason the run was stopped with; null if it wasn't. Kept because the TorchScript interpreter replaces
  // exceptions that propagate through it.
  std::exception_ptr stopped() const;

  // Called on the executing thread when execution starts: the time limit counts from here. `slot` is the run's in the
  // executor.
  void begin(std::shared_ptr<Slot> slot = nullptr);
  std::shared_ptr<Slot> slot() const;

  // Said before a run begins that an event loop's thread computes: until the end of it no other thread can have that
  // call JavaScript.
  void blockEventLoop() noexcept { blocksEventLoop_ = true; }
  bool blocksEventLoop() const noexcept { return blocksEventLoop_; }

  // Whether the run may have to stop between any two operators.
  bool watchesOperators() const noexcept { return mayBeRequested_ || limits_.time.has_value(); }
  const std::shared_ptr<MemoryBudget>& memory() const { return memory_; }

 private:
  bool deadlinePassed() const noexcept;

  const std::shared_ptr<const std::atomic<bool>> ended_;
  const RunLimits limits_;
  const bool mayBeRequested_;
  const std::shared_ptr<MemoryBudget> memory_;
  std::atomic<bool> requested_{false};
  std::atomic<bool> isStopped_{false};
  std::atomic<int64_t> deadline_{INT64_MAX};  // steady clock, nanoseconds
  mutable std::mutex mutex_;
  std::exception_ptr stopped_;
  std::shared_ptr<Slot> slot_;
  bool begun_ = false;
  bool blocksEventLoop_ = false;
};

using CancellationPtr = std::shared_ptr<Cancellation>;

}  // namespace lta
