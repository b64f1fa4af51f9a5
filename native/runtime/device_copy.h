// Copies from devices to the CPU that overlap with computation.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <vector>

namespace lta {

// Copies through pinned memory on a stream of their own: neither the calling thread nor work queued later on the device
// waits for them. Not thread-safe.
class DeviceCopies {
 public:
  // Begins a copy, whose elements are valid once `wait` has returned; a CPU tensor is returned as it is. The source may
  // be freed immediately but must not be written to before `wait` has returned.
  at::Tensor toCpu(const at::Tensor& tensor);

  // Blocks until all copies begun so far are complete. Destruction without it is safe: the caching allocator reuses the
  // memory only when the device is done with it.
  void wait();

 private:
  std::vector<c10::Event> pending_;
};

// A complete copy of one tensor. On CUDA, work queued in the meantime isn't waited for.
at::Tensor toCpu(const at::Tensor& tensor);

}  // namespace lta
