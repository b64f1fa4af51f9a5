// Where the attentions of a capture go.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "capture/attention.h"
#include "capture/retained_tensors.h"
#include "runtime/device_copy.h"

namespace lta {

// Where the attentions of a capture go: handed over one at a time as they come, or collected until the run is over.
// Safe to use from several threads at once.
class AttentionSink {
 public:
  // `handOver`: see CaptureOptions::onAttention; absent: attentions are collected.
  explicit AttentionSink(std::function<void(Attention)> handOver) : handOver_(std::move(handOver)) {}

  // An attention on its way. Its weights may still be the model's own.
  struct Delivery {
    Attention attention;
    std::shared_ptr<RetainedTensor> retainedWeights;  // in place of the attention's, where those are the model's own
    at::Tensor output;                                // of the kernel that they belong to (see `forEachWithOutput`)
  };

  // Begins to copy a tensor from its device; what is delivered is complete.
  at::Tensor toCpu(const at::Tensor& tensor);

  // `beforeHandOver` is called before handing over, when no other attention is.
  void deliver(Delivery delivery, const std::function<void()>& beforeHandOver);

  // Calls `change` for what was collected and belongs to a kernel's output.
  void forEachWithOutput(const at::Tensor& output, const std::function<void(Attention&)>& change);

  // What was collected, in execution order. What is delivered afterwards, by a task that nobody waited for, is dropped.
  std::vector<Attention> close(RetainedTensors& retained);

 private:
  const std::function<void(Attention)> handOver_;
  std::mutex handingOver_;  // held while an attention is handed over, which may take long
  std::mutex mutex_;        // of what follows
  DeviceCopies copies_;
  std::vector<Delivery> collected_;
  bool closed_ = false;
};

}  // namespace lta
