#include "capture/softmax_tracker.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace lta {
namespace {

// Sizes that tell batch from heads: those of the softmax's result, or, where that is three-dimensional, those of the
// tensor that its input is a view of ([B, H, Q, K] added a mask to, then flattened).
std::vector<int64_t> tellingSizes(const at::Tensor& input, const at::Tensor& result) {
  if (result.dim() == 3 && input.is_view()) {
    const auto& base = input._base();
    if (base.dim() == 4 && base.size(0) * base.size(1) == result.size(0) && base.size(2) == result.size(1) &&
        base.size(3) == result.size(2)) {
      return base.sizes().vec();
    }
  }
  return result.sizes().vec();
}

}  // namespace

void SoftmaxTracker::track(const at::Tensor& tensor, int64_t dim, std::shared_ptr<Softmax> softmax) {
  auto* storage = storageOf(tensor);
  if (!storage) return;
  // What died without a product can't be consumed any more; what lives at the same place is replaced.
  std::erase_if(tracked_, [&](const Tracked& tracked) {
    return tracked.storage.expired() || tracked.storage._unsafe_get_target() == storage;
  });
  tracked_.push_back({weakly(storage), tensor.stride(dim), tensor.size(dim), std::move(softmax)});
}

void SoftmaxTracker::softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, std::string module) {
  if (result.dim() == 0 || result.is_nested()) return;
  if (dim < 0) dim += result.dim();
  track(result, dim, std::make_shared<Softmax>(Softmax{tellingSizes(input, result), std::move(module)}));
}

const SoftmaxTracker::Tracked* SoftmaxTracker::find(const at::Tensor& tensor) const {
  const auto* storage = storageOf(tensor);
  if (!storage) return nullptr;
  for (auto it = tracked_.rbegin(); it != tracked_.rend(); ++it) {
    if (isStorage(it->storage, storage)) return &*it;
  }
  return nullptr;
}

bool SoftmaxTracker::tracks(const at::Tensor& tensor) const { return !tracked_.empty() && find(tensor) != nullptr; }

void SoftmaxTracker::derive(const at::Tensor& source, const at::Tensor& result) {
  if (tracked_.empty()) return;
  const auto* tracked = find(source);
  if (!tracked || storageOf(result) == storageOf(source) || source.sizes() != result.sizes()) return;
  for (int64_t dim = source.dim() - 1; dim >= 0; --dim) {
    if (source.stride(dim) == tracked->stride && source.size(dim) <= tracked->size) {
      track(result, dim, tracked->softmax);
      return;
    }
  }
}

std::optional<SoftmaxTracker::Consumed> SoftmaxTracker::product(const at::Tensor& operand, int64_t dim,
                                                                Arrange arrange) {
  const auto* tracked = tracked_.empty() ? nullptr : find(operand);
  if (!tracked || tracked->softmax->consumed) return std::nullopt;
  // The summed dimension has to be the softmax's own (or a part of it: an attention sink's column may be cut off).
  if (operand.stride(dim) != tracked->stride || operand.size(dim) > tracked->size) return std::nullopt;
  tracked->softmax->consumed = true;
  return Consumed{operand, std::move(arrange), tracked->softmax->sizes, tracked->softmax->module};
}

std::optional<SoftmaxTracker::Consumed> SoftmaxTracker::product(const at::Tensor& a, const at::Tensor& b, May may) {
  // A product with a vector is an expectation over bins, not attention.
  if (tracked_.empty() || a.dim() < 2 || b.dim() < 2) return std::nullopt;
  if (may.a) {
    if (auto consumed = product(a, a.dim() - 1, [](const at::Tensor& operand) { return operand; })) return consumed;
  }
  if (!may.b) return std::nullopt;
  return product(b, b.dim() - 2, [](const at::Tensor& operand) { return operand.transpose(-2, -1); });
}

}  // namespace lta
