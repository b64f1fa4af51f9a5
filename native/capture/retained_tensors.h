// Tensors of the model that a capture keeps by reference.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

namespace lta {

// A tensor of the model that a capture retains for later. It reads as it did when it was retained, whatever the model
// does with its own afterwards.
class RetainedTensor {
 public:
  // Throws ERR_MODEL_RUN where an operator wrote into it without saying so in its schema.
  const at::Tensor& get() const;

 private:
  friend class RetainedTensors;
  explicit RetainedTensor(at::Tensor tensor);
  void copy();

  at::Tensor tensor_;  // shares the memory of the model's, until that is written to
  uint32_t version_;
  bool copied_ = false;
};

// All tensors that one capture retains: by reference, and copied before the first write that reaches their memory
// (the probe tells of those). Most models write into none of them, and then nothing is ever copied.
class RetainedTensors {
 public:
  // With `copyAtOnce` nothing is retained by reference: for runs in which something writes that isn't an operator.
  explicit RetainedTensors(bool copyAtOnce) : copyAtOnce_(copyAtOnce) {}

  std::shared_ptr<RetainedTensor> retain(const at::Tensor& tensor);

  // An operator is about to write into `tensor`, or to change what it is a view of.
  void beforeWrite(const at::Tensor& tensor);
  bool empty() const { return count_.load(std::memory_order_relaxed) == 0; }

  // While this is held, writes into what is retained wait: for whoever reads it. Whatever else happens goes on.
  std::shared_lock<std::shared_mutex> reading() { return std::shared_lock(reading_); }

 private:
  const bool copyAtOnce_;
  std::shared_mutex reading_;  // asked for after `mutex_`
  std::mutex mutex_;           // of what follows
  std::vector<std::weak_ptr<RetainedTensor>> tensors_;
  std::atomic<size_t> count_{0};
};

// A copy with memory of its own, as large as what `tensor` itself holds: what is expanded stays so.
at::Tensor cloneOf(const at::Tensor& tensor);

}  // namespace lta
