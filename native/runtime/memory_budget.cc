#include "runtime/memory_budget.h"

#include <c10/core/Allocator.h>

#include <array>
#include <chrono>
#include <mutex>
#include <string>
#include <unordered_map>

#include "runtime/cancellation.h"
#include "runtime/resident_memory.h"

namespace lta {
namespace {

// Growth that other runs and JavaScript may account for.
constexpr int64_t kUnrelatedGrowth = int64_t{1} << 30;
constexpr std::chrono::nanoseconds kSamplingInterval = std::chrono::milliseconds(20);

// Live budgets; while there are none, allocations skip the lookup.
std::atomic<int64_t> budgets{0};

// The budget each allocation is charged to, by address: whatever frees the memory, e.g. a tensor on another thread
// after the run, refunds it.
class Reservations {
 public:
  void add(void* address, std::shared_ptr<MemoryBudget> budget, size_t bytes) {
    auto& part = partOf(address);
    const std::lock_guard<std::mutex> lock(part.mutex);
    auto& entry = part.entries[address];
    // A tensor's memory was released and freed without our deleter, and its entry is stale.
    if (entry.budget) entry.budget->release(entry.bytes);
    entry = {std::move(budget), bytes};
  }

  void remove(void* address) {
    auto& part = partOf(address);
    const std::lock_guard<std::mutex> lock(part.mutex);
    const auto found = part.entries.find(address);
    if (found == part.entries.end()) return;
    found->second.budget->release(found->second.bytes);
    part.entries.erase(found);
  }

 private:
  struct Entry {
    std::shared_ptr<MemoryBudget> budget;
    size_t bytes = 0;
  };
  struct Part {
    std::mutex mutex;
    std::unordered_map<void*, Entry> entries;
  };
  Part& partOf(void* address) { return parts_[(reinterpret_cast<uintptr_t>(address) >> 6) % parts_.size()]; }

  std::array<Part, 16> parts_;
};

// Leaked: tensors are freed during static destruction.
Reservations& reservations() {
  static auto* all = new Reservations();
  return *all;
}

class BudgetAllocator final : public c10::Allocator {
 public:
  explicit BudgetAllocator(c10::Allocator* inner) : inner_(inner) { freeInner = inner->raw_deleter(); }

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0 || budgets.load(std::memory_order_relaxed) == 0) return inner_->allocate(bytes);
    auto budget = MemoryBudget::reserveForCurrentRun(bytes);
    if (!budget) return inner_->allocate(bytes);
    try {
      auto data = inner_->allocate(bytes);
      // Our deleter gets the address alone, so the inner one must need no more than that.
      if (data.get() != data.get_context() || data.get_deleter() != freeInner) {
        budget->release(bytes);
        return data;
      }
      const auto device = data.device();
      void* const address = data.release_context();
      reservations().add(address, std::move(budget), bytes);
      return {address, address, &free, device};
    } catch (...) {
      if (budget) budget->release(bytes);
      throw;
    }
  }

  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t count) const override { inner_->copy_data(to, from, count); }

 private:
  static void free(void* address) {
    reservations().remove(address);
    freeInner(address);
  }

  static inline c10::DeleterFnPtr freeInner = nullptr;
  c10::Allocator* const inner_;
};

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

void MemoryBudget::begin() noexcept { residentAtBegin_ = residentMemory(); }

int64_t MemoryBudget::excessiveGrowth() noexcept {
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  int64_t next = nextSample_.load(std::memory_order_relaxed);
  // One thread of the run samples; the others skip.
  if (now < next || !nextSample_.compare_exchange_strong(next, now + kSamplingInterval.count())) return 0;
  const int64_t before = residentAtBegin_.load(std::memory_order_relaxed);
  const int64_t growth = before > 0 ? residentMemory() - before : 0;
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

void MemoryBudget::installAllocator() {
  static std::once_flag once;
  std::call_once(once, [] {
    const auto cpu = c10::DeviceType::CPU;
    c10::SetAllocator(cpu, new BudgetAllocator(c10::GetAllocator(cpu)), /*priority=*/UINT8_MAX);
  });
}

}  // namespace lta
