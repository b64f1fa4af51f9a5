#include "capture/score_tracker.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace lta {

ScoreTracker::Layout::Layout(const at::Tensor& tensor)
    : sizes(tensor.sizes().vec()), strides(tensor.strides().vec()), offset(tensor.storage_offset()) {}

int64_t ScoreTracker::Layout::last() const {
  auto last = offset;
  for (size_t dim = 0; dim < sizes.size(); ++dim) last += std::max<int64_t>(0, sizes[dim] - 1) * strides[dim];
  return last;
}

bool ScoreTracker::Layout::contains(const Layout& other) const {
  return offset <= other.offset && other.last() <= last();
}

at::Tensor ScoreTracker::Layout::of(const at::Tensor& tensor) const {
  auto copy = at::empty_strided(sizes, strides, tensor.options().requires_grad(false));
  copy.copy_(tensor.detach());
  return copy;
}

void ScoreTracker::track(const at::Tensor& tensor, Scores scores) {
  auto* const storage = storageOf(tensor);
  if (!storage) return;
  std::erase_if(tracked_, [&](const Tracked& tracked) {
    return tracked.storage.expired() || tracked.storage._unsafe_get_target() == storage;
  });
  tracked_.push_back({weakly(storage), Layout(tensor), std::move(scores)});
}

const ScoreTracker::Tracked* ScoreTracker::find(const at::Tensor& tensor) const {
  const auto* storage = storageOf(tensor);
  if (!storage) return nullptr;
  for (auto it = tracked_.rbegin(); it != tracked_.rend(); ++it) {
    if (isStorage(it->storage, storage)) return &*it;
  }
  return nullptr;
}

void ScoreTracker::softmax(std::shared_ptr<RetainedTensor> scores, const at::Tensor& result) {
  if (result.is_nested() || result.layout() != at::kStrided) return;
  track(result, [scores = std::move(scores), layout = Layout(result)] { return layout.of(scores->get()); });
}

void ScoreTracker::derive(const at::Tensor& source, const at::Tensor& result) {
  const auto* tracked = find(source);
  if (!tracked || storageOf(result) == storageOf(source) || source.sizes() != result.sizes()) return;
  auto scores = viewed(*tracked, Layout(source));
  if (!scores) return;
  track(result, [scores = std::move(scores), layout = Layout(result)] { return layout.of(scores()); });
}

ScoreTracker::Scores ScoreTracker::viewed(const Tracked& from, const Layout& to) {
  if (!from.layout.contains(to)) return nullptr;
  return [scores = from.scores, to, first = from.layout.offset] {
    return scores().as_strided(to.sizes, to.strides, to.offset - first);
  };
}

ScoreTracker::Scores ScoreTracker::behind(const at::Tensor& weights) const {
  const auto* tracked = find(weights);
  return tracked ? viewed(*tracked, Layout(weights)) : nullptr;
}

}  // namespace lta
