#include "capture/fixed_tensors.h"

namespace lta {

bool FixedTensors::contains(const at::Tensor& tensor) {
  if (modules_->isParameter(tensor)) return true;
  if (!any_.load(std::memory_order_relaxed)) return false;
  const auto* storage = storageOf(tensor);
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = madeOfParameters_.find(storage);
  return found != madeOfParameters_.end() && !found->second.expired();
}

void FixedTensors::add(const at::Tensor& result) {
  auto* const storage = storageOf(result);
  if (!storage) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (madeOfParameters_.size() >= sweepAt_) {
    std::erase_if(madeOfParameters_, [](const auto& entry) { return entry.second.expired(); });
    sweepAt_ = 2 * madeOfParameters_.size() + kSweepAt;
  }
  madeOfParameters_.insert_or_assign(storage, weakly(storage));
  any_ = true;
}

void FixedTensors::remove(const at::Tensor& tensor) {
  if (!any()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  madeOfParameters_.erase(storageOf(tensor));
}

}  // namespace lta
