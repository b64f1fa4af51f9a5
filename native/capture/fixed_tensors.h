// Which tensors depend on no input.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "capture/module_resolver.h"
#include "torch/storage.h"

namespace lta {

// Tells tensors that don't depend on the inputs of a run: parameters, buffers and constants, and what was made of such
// alone. Scores are no product with one, and a softmax times one picks from a table (a codebook, an embedding), or is
// an expectation over fixed bins. Safe to use from several threads at once.
class FixedTensors {
 public:
  explicit FixedTensors(std::shared_ptr<const ModuleResolver> modules) : modules_(std::move(modules)) {}

  bool contains(const at::Tensor& tensor);
  // An operator made `result` of such tensors alone.
  void add(const at::Tensor& result);
  // Something that depends on inputs is written into it.
  void remove(const at::Tensor& tensor);
  bool any() const { return any_.load(std::memory_order_relaxed); }

 private:
  const std::shared_ptr<const ModuleResolver> modules_;
  std::mutex mutex_;
  std::unordered_map<const c10::StorageImpl*, WeakStorage> madeOfParameters_;
  static constexpr size_t kSweepAt = 64;
  size_t sweepAt_ = kSweepAt;
  std::atomic<bool> any_{false};
};

}  // namespace lta
