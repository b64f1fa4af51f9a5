// Allocation of large CPU results, and their reuse.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lta {

// An uninitialised CPU tensor. Large ones use huge pages where available and recycled memory: faulting in new pages
// costs more than computing the weights that fill them. Charged to the memory limit of the run.
at::Tensor emptyResult(at::IntArrayRef sizes, at::ScalarType dtype);

// Returns idle memory to the system: that of freed results, and per-thread scratch memory.
void releaseMemory();

}  // namespace lta
