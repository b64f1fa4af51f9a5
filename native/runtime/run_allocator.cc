#include "runtime/run_allocator.h"

#include <c10/core/Allocator.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>

#include "runtime/memory_budget.h"
#include "runtime/recycled_memory.h"
#include "runtime/run_scope.h"

namespace lta {
namespace {

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

class RunAllocator final : public c10::Allocator {
 public:
  explicit RunAllocator(c10::Allocator* inner) : inner_(inner) { freeInner = inner->raw_deleter(); }

  c10::DataPtr allocate(size_t bytes) override {
    auto budget = bytes == 0 ? nullptr : MemoryBudget::reserveForCurrentRun(bytes);
    if (!budget) return uncharged(bytes);
    try {
      auto data = uncharged(bytes);
      // Our deleter gets the address alone, so the other one must need no more than that.
      if (data.get() != data.get_context() || (data.get_deleter() != freeInner && data.get_deleter() != &free)) {
        budget->release(bytes);
        return data;
      }
      const auto device = data.device();
      void* const address = data.release_context();
      reservations().add(address, std::move(budget), bytes);
      return {address, address, &freeCharged, device};
    } catch (...) {
      if (budget) budget->release(bytes);
      throw;
    }
  }

  // Of all that it allocates, charged or not.
  c10::DeleterFnPtr raw_deleter() const override { return &freeCharged; }
  void copy_data(void* to, const void* from, size_t count) const override { inner_->copy_data(to, from, count); }

 private:
  c10::DataPtr uncharged(size_t bytes) {
    if (bytes < RecycledMemory::kLarge || !RunScope::isOpen()) return inner_->allocate(bytes);
    auto& memory = RecycledMemory::instance();
    if (!memory.keeps(bytes)) return inner_->allocate(bytes);
    try {
      void* const address = memory.take(bytes);
      return {address, address, &free, c10::Device(c10::DeviceType::CPU)};
    } catch (const std::bad_alloc&) {
      return inner_->allocate(bytes);  // whose error tells how much was asked for
    }
  }

  static void free(void* address) {
    if (!RecycledMemory::instance().give(address)) freeInner(address);
  }
  static void freeCharged(void* address) {
    reservations().remove(address);
    free(address);
  }

  static inline c10::DeleterFnPtr freeInner = nullptr;
  c10::Allocator* const inner_;
};

}  // namespace

void installRunAllocator() {
  static std::once_flag once;
  std::call_once(once, [] {
    const auto cpu = c10::DeviceType::CPU;
    c10::SetAllocator(cpu, new RunAllocator(c10::GetAllocator(cpu)), /*priority=*/UINT8_MAX);
  });
}

}  // namespace lta
