#include "runtime/device_copy.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>

#include "torch/device_guard.h"

namespace lta {

at::Tensor DeviceCopies::toCpu(const at::Tensor& tensor) {
  // Other devices have no pinned memory or no streams.
  if (!tensor.is_cuda() || tensor.layout() != at::kStrided || tensor.numel() == 0) return tensor.to(at::kCPU);
  const auto stream = streamOfPool(tensor.device());
  // The copy waits for what computes the tensor, but not for work queued from now on.
  c10::Event computed(tensor.device().type());
  computed.record(currentStream(tensor.device()));
  computed.block(stream);
  const auto host = at::empty_like(tensor, tensor.options().device(at::kCPU).pinned_memory(true).requires_grad(false));
  c10::Event copied(tensor.device().type());
  {
    // The current device may differ: the guard sets device and stream, and restores both.
    const c10::StreamGuard guard(stream);
    host.copy_(tensor, /*non_blocking=*/true);
    copied.record(stream);
  }
  tensor.record_stream(stream);  // keeps the allocator from reusing its memory before the copy completes
  pending_.push_back(std::move(copied));
  return host;
}

void DeviceCopies::wait() {
  for (const auto& event : pending_) event.synchronize();
  pending_.clear();
}

at::Tensor toCpu(const at::Tensor& tensor) {
  DeviceCopies copies;
  const auto host = copies.toCpu(tensor);
  copies.wait();
  return host;
}

}  // namespace lta
