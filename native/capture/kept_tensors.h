#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <vector>

namespace lta {

// A tensor of the model that a capture keeps for later. It reads as it did when it was kept, whatever the model does
// with its own afterwards.
class KeptTensor {
 public:
  // Throws ERR_MODEL_RUN where an operator wrote into it without saying so in its schema.
  const at::Tensor& get() const;

 private:
  friend class KeptTensors;
  explicit KeptTensor(at::Tensor tensor);
  void copy();

  at::Tensor tensor_;  // shares the memory of the model's, until that is written to
  uint32_t version_;
  bool copied_ = false;
};

// All that one capture keeps. Tensors are kept by reference, and copied ahead of the first write that reaches their
// memory (the probe tells of those): most models write into none of them, and then nothing is ever copied.
class KeptTensors {
 public:
  // With `copyAtOnce` nothing is kept by reference: for runs in which something writes that isn't an operator.
  explicit KeptTensors(bool copyAtOnce) : copyAtOnce_(copyAtOnce) {}

  std::shared_ptr<KeptTensor> keep(const at::Tensor& tensor);

  // An operator is about to write into `tensor`, or to change what it is a view of.
  void beforeWrite(const at::Tensor& tensor);
  bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }

  // While this is held, writes wait: for whoever reads what is kept.
  std::shared_lock<std::shared_mutex> reading() { return std::shared_lock(mutex_); }

 private:
  const bool copyAtOnce_;
  std::shared_mutex mutex_;
  std::vector<std::weak_ptr<KeptTensor>> tensors_;
  std::atomic<size_t> count_{0};
};

// A copy with memory of its own, as large as what `tensor` itself holds: what is expanded stays so.
at::Tensor copyOf(const at::Tensor& tensor);

}  // namespace lta
