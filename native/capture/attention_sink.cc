#include "capture/attention_sink.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "runtime/lock_yielding_slot.h"

namespace lta {

at::Tensor AttentionSink::toCpu(const at::Tensor& tensor) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return copies_.toCpu(tensor);
}

void AttentionSink::deliver(Delivery delivery, const std::function<void()>& beforeHandOver) {
  if (!handOver_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_) collected_.push_back(std::move(delivery));
    return;
  }
  // Whoever takes an attention may keep this waiting for long; other threads of the run only wait for that where they
  // have one to hand over themselves.
  const auto handingOver = lockYieldingSlot<std::unique_lock<std::mutex>>(handingOver_);
  beforeHandOver();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    copies_.wait();
  }
  handOver_(std::move(delivery.attention));
}

void AttentionSink::forEachWithOutput(const at::Tensor& output, const std::function<void(Attention&)>& change) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto& delivery : collected_) {
    if (delivery.output.is_same(output)) change(delivery.attention);
  }
}

std::vector<Attention> AttentionSink::close(RetainedTensors& retained) {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  std::sort(collected_.begin(), collected_.end(),
            [](const Delivery& a, const Delivery& b) { return a.attention.site.index < b.attention.site.index; });
  copies_.wait();
  std::vector<Attention> attentions;
  for (auto& [attention, weights, output] : collected_) {
    if (weights) {
      const auto reading = retained.reading();
      attention.weights = weights->get();
      weights.reset();
      // Where the model still has them, returned or in an attribute, whoever writes into its own mustn't change these.
      if (attention.weights.storage().use_count() > 1) attention.weights = cloneOf(attention.weights);
    }
    attentions.push_back(std::move(attention));
  }
  collected_.clear();
  return attentions;
}

}  // namespace lta
