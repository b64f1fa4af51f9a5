#include "attention/result_memory.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <list>
#include <mutex>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lta {
namespace {

constexpr size_t kHugePage = 2 * 1024 * 1024;
// Below this, libtorch's own allocator is as fast.
constexpr size_t kLarge = 2 * kHugePage;
// What is kept for the next results: the weights of two captures of a model of BERT's size at 512 tokens.
constexpr size_t kIdleBytes = 256 * 1024 * 1024;

// Memory of results that were freed, for the next ones. The system clears each page that it hands out, which takes
// longer than filling it with weights.
class ResultMemory {
 public:
  static ResultMemory& instance() {
    static ResultMemory* memory = new ResultMemory();  // results may be freed while the process ends
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
    void* address = std::aligned_alloc(kHugePage, length);
    if (!address) throw std::bad_alloc();
#if defined(__linux__)
    madvise(address, length, MADV_HUGEPAGE);  // a wish: without huge pages it only takes longer
#endif
    return address;
  }

  void give(void* address, size_t length) {
    std::list<Block> freed;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      idle_.push_front({address, length});
      idleBytes_ += length;
      while (idleBytes_ > kIdleBytes) {
        idleBytes_ -= idle_.back().length;
        freed.splice(freed.end(), idle_, std::prev(idle_.end()));
      }
    }
    for (const auto& block : freed) std::free(block.address);
  }

 private:
  struct Block {
    void* address;
    size_t length;
  };
  std::mutex mutex_;
  std::list<Block> idle_;  // the latest first
  size_t idleBytes_ = 0;
};

}  // namespace

at::Tensor emptyResult(at::IntArrayRef sizes, at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype);
  size_t bytes = c10::elementSize(dtype);
  for (const auto size : sizes) bytes *= static_cast<size_t>(size);
  if (bytes < kLarge) return at::empty(sizes, options);
  const size_t length = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  auto& memory = ResultMemory::instance();
  return at::from_blob(
      memory.take(length), sizes, [&memory, length](void* address) { memory.give(address, length); }, options);
}

}  // namespace lta
