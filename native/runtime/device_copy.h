#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <vector>

namespace lta {

// Copies from a device to the CPU through pinned memory, on a stream of their own: the thread that starts one goes on,
// and so does what it queues on the device afterwards. To be used from one thread at a time.
class DeviceCopies {
 public:
  // The tensor's elements on the CPU, once `wait` has returned; the tensor itself where it is there. The tensor may be
  // freed at once, but not written to before `wait` has returned.
  at::Tensor toCpu(const at::Tensor& tensor);

  // Until all copies begun so far are there. One that wasn't waited for needs no wait either: its memory is only reused
  // once the device is done with it.
  void wait();

 private:
  std::vector<c10::Event> pending_;
};

// The same for one tensor, there when this returns. On CUDA nothing that is queued meanwhile is waited for.
at::Tensor toCpu(const at::Tensor& tensor);

}  // namespace lta
