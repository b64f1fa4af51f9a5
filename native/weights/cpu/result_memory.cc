#include "weights/cpu/result_memory.h"

#include <ATen/ATen.h>

#include <cstddef>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "runtime/memory_budget.h"
#include "runtime/recycled_memory.h"
#include "runtime/scratch.h"

namespace lta {

at::Tensor emptyResult(at::IntArrayRef sizes, at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype);
  size_t bytes = c10::elementSize(dtype);
  for (const auto size : sizes) bytes *= static_cast<size_t>(size);
  if (bytes < RecycledMemory::kLarge) return at::empty(sizes, options);
  auto& memory = RecycledMemory::instance();
  const size_t length = RecycledMemory::lengthFor(bytes);
  const auto budget = MemoryBudget::reserveForCurrentRun(length);
  const auto give = [&memory, length, budget](void* address) {
    memory.give(address);
    if (budget) budget->release(length);
  };
  void* address = nullptr;
  try {
    address = memory.take(bytes);
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
  RecycledMemory::instance().release();
  ScratchBase::releaseAll();
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace lta
