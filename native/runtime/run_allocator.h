// The memory of tensors that runs make. Allocators are replaced here and nowhere else.
#pragma once

namespace lta {

// Wraps libtorch's CPU allocator by one that charges budgets (memory_budget.h) and gives large tensors of runs recycled
// memory (recycled_memory.h): what a forward of large batches holds between its layers would otherwise be mapped and
// zeroed anew in each. Once per process, before any tensor exists. Other allocations pass through unchanged.
void installRunAllocator();

}  // namespace lta
