#include "capture/pending_attention.h"

namespace lta {

void PendingAttention::retain(RetainedTensors& tensors) {
  const auto retain = [&](at::Tensor& tensor) {
    if (!tensor.defined()) return;
    retained_.emplace_back(&tensor, tensors.retain(tensor));
    tensor.reset();
  };
  retain(weights);
  retain(value);
  if (call) {
    retain(call->query);
    retain(call->key);
    if (call->mask) retain(*call->mask);
  }
}

void PendingAttention::restore() {
  for (const auto& [tensor, retained] : retained_) *tensor = retained->get();
}

}  // namespace lta
