#include "runtime/cancellation.h"

#include <string>

#include "runtime/executor.h"
#include "runtime/memory_budget.h"

namespace lta {
namespace {

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Cancellation::Cancellation(std::shared_ptr<const std::atomic<bool>> ended, RunLimits limits, bool mayBeRequested)
    : ended_(std::move(ended)),
      limits_(limits),
      mayBeRequested_(mayBeRequested),
      memory_(limits.memory ? std::make_shared<MemoryBudget>(*limits.memory) : nullptr) {}

void Cancellation::begin(std::shared_ptr<Slot> slot) {
  const std::lock_guard<std::mutex> lock(mutex_);
  slot_ = std::move(slot);
  if (begun_) return;
  begun_ = true;
  if (memory_) memory_->begin();
  if (!limits_.time) return;
  const int64_t start = now(), most = limits_.time->count();
  deadline_ = most > INT64_MAX - start ? INT64_MAX : start + most;
}

std::shared_ptr<Slot> Cancellation::slot() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return slot_;
}

void Cancellation::request() noexcept {
  requested_.store(true, std::memory_order_relaxed);
  if (const auto held = slot()) Executor::instance().abandon(held);
}

bool Cancellation::deadlinePassed() const noexcept {
  return limits_.time && now() >= deadline_.load(std::memory_order_relaxed);
}

bool Cancellation::requested() const noexcept {
  return requested_.load(std::memory_order_relaxed) || isStopped_.load(std::memory_order_relaxed) ||
         (ended_ && ended_->load(std::memory_order_relaxed)) || deadlinePassed();
}

void Cancellation::check() {
  if (!requested()) return;
  // The first reason is the one to report, even if only a forked task that nobody awaits has noticed it.
  if (const auto reason = stopped()) std::rethrow_exception(reason);
  if (requested_ || (ended_ && *ended_)) stop(std::make_exception_ptr(Cancelled()));
  const auto limit = std::chrono::duration<double, std::milli>(*limits_.time).count();
  std::string shown = std::to_string(limit);
  shown.erase(shown.find_last_not_of('0') + 1);
  if (shown.back() == '.') shown.pop_back();
  stop(std::make_exception_ptr(
      Error("ERR_TIME_LIMIT", "Expected an end within " + shown + " ms (timeLimit) but it was still running then")));
}

void Cancellation::checkLoop() {
  check();
  if (!memory_) return;
  if (const int64_t growth = memory_->excessiveGrowth()) {
    stop(std::make_exception_ptr(Error("ERR_MEMORY_LIMIT", "Expected at most " + std::to_string(memory_->limit()) +
                                                               " bytes at once (memoryLimit) but the process grew by " +
                                                               std::to_string(growth) +
                                                               " while the run executed a loop")));
  }
}

void Cancellation::stop(std::exception_ptr reason) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!stopped_) stopped_ = reason;
    reason = stopped_;
  }
  isStopped_ = true;
  std::rethrow_exception(reason);
}

std::exception_ptr Cancellation::stopped() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stopped_;
}

}  // namespace lta
