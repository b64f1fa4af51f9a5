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

// What the process may grow by beyond the tensors that a run may hold: by other runs, and by JavaScript.
constexpr int64_t kElsewhere = int64_t{1} << 30;
constexpr std::chrono::nanoseconds kBetweenLooks = std::chrono::milliseconds(20);

// How many budgets there are: nothing is looked up while there is none.
std::atomic<int64_t> budgets{0};

// What each allocation of a run with a budget was taken from. The address alone tells: whatever frees the memory, a
// tensor on another thread after the run, gives it back.
class Taken {
 public:
  void add(void* address, std::shared_ptr<MemoryBudget> budget, size_t bytes) {
    auto& part = partOf(address);
    const std::lock_guard<std::mutex> lock(part.mutex);
    auto& entry = part.entries[address];
    // Whoever took the memory out of its tensor and freed it without our deleter has left one behind.
    if (entry.budget) entry.budget->give(entry.bytes);
    entry = {std::move(budget), bytes};
  }

  void remove(void* address) {
    auto& part = partOf(address);
    const std::lock_guard<std::mutex> lock(part.mutex);
    const auto found = part.entries.find(address);
    if (found == part.entries.end()) return;
    found->second.budget->give(found->second.bytes);
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

// Never destroyed: tensors are freed at the end of the process.
Taken& taken() {
  static auto* all = new Taken();
  return *all;
}

class WatchingAllocator final : public c10::Allocator {
 public:
  explicit WatchingAllocator(c10::Allocator* inner) : inner_(inner) { freeInner = inner->raw_deleter(); }

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0 || budgets.load(std::memory_order_relaxed) == 0) return inner_->allocate(bytes);
    auto budget = MemoryBudget::takeOfCurrentRun(bytes);
    if (!budget) return inner_->allocate(bytes);
    try {
      auto data = inner_->allocate(bytes);
      // Only memory that is freed by its address alone can be freed by us.
      if (data.get() != data.get_context() || data.get_deleter() != freeInner) {
        budget->give(bytes);
        return data;
      }
      const auto device = data.device();
      void* const address = data.release_context();
      taken().add(address, std::move(budget), bytes);
      return {address, address, &free, device};
    } catch (...) {
      if (budget) budget->give(bytes);
      throw;
    }
  }

  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t count) const override { inner_->copy_data(to, from, count); }

 private:
  static void free(void* address) {
    taken().remove(address);
    freeInner(address);
  }

  static inline c10::DeleterFnPtr freeInner = nullptr;
  c10::Allocator* const inner_;
};

}  // namespace

MemoryBudget::MemoryBudget(int64_t most) : most_(most) { ++budgets; }
MemoryBudget::~MemoryBudget() { --budgets; }

bool MemoryBudget::take(size_t bytes) {
  const auto wanted = static_cast<int64_t>(bytes);
  int64_t held = held_.load(std::memory_order_relaxed);
  do {
    if (wanted < 0 || wanted > most_ - held) return false;
  } while (!held_.compare_exchange_weak(held, held + wanted, std::memory_order_relaxed));
  return true;
}

void MemoryBudget::give(size_t bytes) { held_.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed); }

void MemoryBudget::begin() noexcept { residentAtBegin_ = residentMemory(); }

int64_t MemoryBudget::excessiveGrowth() noexcept {
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  int64_t next = nextLook_.load(std::memory_order_relaxed);
  // One thread of the run looks, the others go on.
  if (now < next || !nextLook_.compare_exchange_strong(next, now + kBetweenLooks.count())) return 0;
  const int64_t before = residentAtBegin_.load(std::memory_order_relaxed);
  const int64_t growth = before > 0 ? residentMemory() - before : 0;
  return growth - kElsewhere > most_ ? growth : 0;
}

std::shared_ptr<MemoryBudget> MemoryBudget::takeOfCurrentRun(size_t bytes) {
  if (budgets.load(std::memory_order_relaxed) == 0) return nullptr;
  auto* const run = Cancellation::current();
  if (!run || !run->memory()) return nullptr;
  const auto& budget = run->memory();
  if (budget->take(bytes)) return budget;
  run->stop(std::make_exception_ptr(
      Error("ERR_MEMORY_LIMIT", "Expected at most " + std::to_string(budget->most()) +
                                    " bytes of tensors at once (memoryLimit) but the run asked for " +
                                    std::to_string(bytes) + " more while it held " + std::to_string(budget->held()))));
}

void MemoryBudget::watchAllocations() {
  static std::once_flag once;
  std::call_once(once, [] {
    const auto cpu = c10::DeviceType::CPU;
    c10::SetAllocator(cpu, new WatchingAllocator(c10::GetAllocator(cpu)), /*priority=*/UINT8_MAX);
  });
}

}  // namespace lta
