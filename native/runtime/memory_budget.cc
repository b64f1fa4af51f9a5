#include "runtime/memory_budget.h"

#include <chrono>
#include <string>

#include "runtime/cancellation.h"
#include "runtime/recycled_memory.h"
#include "runtime/resident_memory.h"

namespace lta {
namespace {

// Growth that other runs and JavaScript may account for.
constexpr int64_t kUnrelatedGrowth = int64_t{1} << 30;
constexpr std::chrono::nanoseconds kSamplingInterval = std::chrono::milliseconds(20);

// Live budgets; while there are none, allocations skip the lookup.
std::atomic<int64_t> budgets{0};

// Without what waits to be used again.
int64_t residentInUse() { return residentMemory() - static_cast<int64_t>(RecycledMemory::instance().idleBytes()); }

}  // namespace

MemoryBudget::MemoryBudget(int64_t limit) : limit_(limit) { ++budgets; }
MemoryBudget::~MemoryBudget() { --budgets; }

bool MemoryBudget::tryReserve(size_t bytes) {
  const auto wanted = static_cast<int64_t>(bytes);
  int64_t held = held_.load(std::memory_order_relaxed);
  do {
    if (wanted < 0 || wanted > limit_ - held) return false;
  } while (!held_.compare_exchange_weak(held, held + wanted, std::memory_order_relaxed));
  return true;
}

void MemoryBudget::release(size_t bytes) { held_.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed); }

void MemoryBudget::begin() noexcept { residentAtBegin_ = residentInUse(); }

int64_t MemoryBudget::excessiveGrowth() noexcept {
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  int64_t next = nextSample_.load(std::memory_order_relaxed);
  // One thread of the run samples; the others skip.
  if (now < next || !nextSample_.compare_exchange_strong(next, now + kSamplingInterval.count())) return 0;
  const int64_t before = residentAtBegin_.load(std::memory_order_relaxed);
  const int64_t growth = before > 0 ? residentInUse() - before : 0;
  return growth - kUnrelatedGrowth > limit_ ? growth : 0;
}

std::shared_ptr<MemoryBudget> MemoryBudget::reserveForCurrentRun(size_t bytes) {
  if (budgets.load(std::memory_order_relaxed) == 0) return nullptr;
  auto* const run = Cancellation::current();
  if (!run || !run->memory()) return nullptr;
  const auto& budget = run->memory();
  if (budget->tryReserve(bytes)) return budget;
  run->stop(std::make_exception_ptr(
      Error("ERR_MEMORY_LIMIT", "Expected at most " + std::to_string(budget->limit()) +
                                    " bytes of tensors at once (memoryLimit) but the run asked for " +
                                    std::to_string(bytes) + " more while it held " + std::to_string(budget->held()))));
}

}  // namespace lta
