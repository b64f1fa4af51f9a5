#include "weights/cpu/result_memory.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <list>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <malloc.h>
#include <sys/mman.h>
#endif

#include "runtime/available_memory.h"
#include "runtime/memory_budget.h"
#include "runtime/scratch.h"

namespace lta {
namespace {

constexpr size_t kHugePage = 2 * 1024 * 1024;
// Below this, libtorch's own allocator is as fast.
constexpr size_t kLarge = 256 * 1024;
// Lengths are rounded up, so that results of similar size share blocks.
constexpr size_t kStep = 64 * 1024;
// Limit of idle memory: a sixteenth of the memory available to the process, but at least the weights of two captures of
// a BERT-sized model at 512 tokens unless that is over a quarter of it; or the value of the environment variable.
size_t mostIdleBytes() {
  constexpr uint64_t kLeast = 256 * 1024 * 1024;
  if (const char* given = std::getenv("LIBTORCH_ATTENTION_RESULT_MEMORY")) {
    char* end = nullptr;
    const auto bytes = std::strtoull(given, &end, 10);
    if (end != given && *end == 0) return bytes;
  }
  const auto available = availableMemory();
  return std::min(std::max(kLeast, available / 16), available / 4);
}

// Allocates from the system directly: on the C library's heap, results would outlive the model's allocations around
// them and keep it from being trimmed. Throws std::bad_alloc.
#if defined(__linux__)
void* fromSystem(size_t length) {
  // Long blocks are aligned to huge pages and ask for them; it is only slower without.
  const size_t extra = length >= 2 * kHugePage ? kHugePage : 0;
  void* mapped = mmap(nullptr, length + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  if (extra == 0) return mapped;
  auto* const begin = static_cast<char*>(mapped);
  const size_t ahead = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (ahead > 0) munmap(begin, ahead);
  if (extra > ahead) munmap(begin + ahead + length, extra - ahead);
  madvise(begin + ahead, length, MADV_HUGEPAGE);
  return begin + ahead;
}
void toSystem(void* address, size_t length) { munmap(address, length); }
#else
void* fromSystem(size_t length) { return ::operator new(length, std::align_val_t(64)); }
void toSystem(void* address, size_t) { ::operator delete(address, std::align_val_t(64)); }
#endif

// Recycles memory of freed results: the system zeroes each new page, which takes longer than filling it with weights.
class ResultMemory {
 public:
  static ResultMemory& instance() {
    static ResultMemory* memory = new ResultMemory();  // leaked: results may be freed during static destruction
    return *memory;
  }

  void* take(size_t length) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (auto block = idle_.begin(); block != idle_.end(); ++block) {
        if (block->length != length) continue;
        void* address = block->address;
        idleBytes_ -= length;
        idle_.erase(block);
        return address;
      }
    }
    try {
      return fromSystem(length);
    } catch (const std::bad_alloc&) {
      releaseMemory();  // idle blocks may be what is missing
      return fromSystem(length);
    }
  }

  void release() {
    std::list<Block> freed;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      freed.swap(idle_);
      idleBytes_ = 0;
    }
    for (const auto& block : freed) toSystem(block.address, block.length);
  }

  void give(void* address, size_t length) {
    std::list<Block> freed;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      idle_.push_front({address, length});
      idleBytes_ += length;
      static const size_t most = mostIdleBytes();
      while (idleBytes_ > most) {
        idleBytes_ -= idle_.back().length;
        freed.splice(freed.end(), idle_, std::prev(idle_.end()));
      }
    }
    for (const auto& block : freed) toSystem(block.address, block.length);
  }

 private:
  struct Block {
    void* address;
    size_t length;
  };
  std::mutex mutex_;
  std::list<Block> idle_;  // most recent first
  size_t idleBytes_ = 0;
};

}  // namespace

at::Tensor emptyResult(at::IntArrayRef sizes, at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype);
  size_t bytes = c10::elementSize(dtype);
  for (const auto size : sizes) bytes *= static_cast<size_t>(size);
  if (bytes < kLarge) return at::empty(sizes, options);
  const size_t step = bytes < 2 * kHugePage ? kStep : kHugePage;
  const size_t length = (bytes + step - 1) / step * step;
  auto& memory = ResultMemory::instance();
  const auto budget = MemoryBudget::reserveForCurrentRun(length);
  const auto give = [&memory, length, budget](void* address) {
    memory.give(address, length);
    if (budget) budget->release(length);
  };
  void* address = nullptr;
  try {
    address = memory.take(length);
  } catch (...) {
    if (budget) budget->release(length);
    throw;
  }
  try {
    return at::from_blob(address, sizes, give, options);
  } catch (...) {
    give(address);
    throw;
  }
}

void releaseMemory() {
  ResultMemory::instance().release();
  ScratchBase::releaseAll();
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace lta
