#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace lta::flow {
namespace {

constexpr int64_t kSweepAt = 64;

}  // namespace

const Flow::Note* Flow::find(const at::Tensor& tensor) const {
  const auto* storage = storageOf(tensor);
  if (!storage) return nullptr;
  const auto found = notes_.find(storage);
  return found == notes_.end() || found->second.storage.expired() ? nullptr : &found->second;
}

Flow::Note& Flow::noteOf(const at::Tensor& tensor) {
  auto* const storage = storageOf(tensor);
  if (notes_.size() >= sweepAt_) {
    std::erase_if(notes_, [](const auto& entry) { return entry.second.storage.expired(); });
    sweepAt_ = std::max<size_t>(kSweepAt, 2 * notes_.size());
  }
  const auto found = notes_.find(storage);
  if (found != notes_.end()) {
    if (!found->second.storage.expired()) return found->second;
    notes_.erase(found);
  }
  return notes_.emplace(storage, Note(weakly(storage))).first->second;
}

Flow::Note& Flow::newNote(const at::Tensor& tensor) {
  auto& note = noteOf(tensor);
  note.value.reset();
  note.multiplied.reset();
  note.reduced.reset();
  note.features.clear();
  note.layer = false;
  note.chosen.reset();
  note.raised.reset();
  note.raisedSum.reset();
  note.lead.reset();
  note.context.reset();
  return note;
}

Flow::Operand Flow::operandOf(const at::Tensor& tensor) const {
  Operand operand{tensor, find(tensor), std::nullopt};
  if (operand.note && operand.note->value && tensor.layout() == at::kStrided) {
    operand.view = operand.note->layout.view(tensor);
  }
  return operand;
}

std::optional<Lead> Flow::leadOf(const at::Tensor& tensor) const {
  if (tensor.dim() != 3) return std::nullopt;
  if (const auto part = featurePart(tensor, 0)) return part->lead;
  const auto* note = find(tensor);
  if (!note || !note->lead || note->lead->outer * note->lead->inner != tensor.size(0)) return std::nullopt;
  return note->lead;
}

std::optional<int64_t> Flow::headsOf(const at::Tensor& tensor) const {
  const auto last = tensor.dim() - 3;
  if (last < 2 || featureAlong(tensor, last)) return std::nullopt;
  std::optional<int64_t> heads;
  for (int64_t dim = 0; dim < last; ++dim) {
    if (!featureAlong(tensor, dim)) continue;
    if (heads) return std::nullopt;
    heads = dim;
  }
  return heads;
}

int64_t Flow::headDimsOf(const at::Tensor& tensor) const {
  const auto leading = tensor.dim() - 2;
  int64_t heads = 0;
  while (heads + 1 < leading && featureAlong(tensor, leading - 1 - heads)) ++heads;
  return std::max<int64_t>(heads, 1);
}

const Flow::Feature* Flow::featureAlong(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || dim < 0 || tensor.size(dim) < 2) return nullptr;
  const auto stride = tensor.stride(dim);
  for (const auto& feature : note->features) {
    if (stride % feature.stride == 0 && stride / feature.stride * (tensor.size(dim) - 1) < feature.size)
      return &feature;
  }
  return nullptr;
}

std::optional<Flow::FeaturePart> Flow::featurePart(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || dim < 0 || featureAlong(tensor, dim)) return std::nullopt;
  const auto size = tensor.size(dim), stride = tensor.stride(dim);
  if (size < 4 || stride < 1) return std::nullopt;
  for (const auto& feature : note->features) {
    const auto reach = feature.stride * feature.size;
    if (stride % feature.stride == 0 && reach % stride == 0) {  // [others · features]
      const auto inner = reach / stride;
      if (inner > 1 && inner < size && size % inner == 0) return FeaturePart{{size / inner, inner, false}, &feature};
    } else if (feature.stride % stride == 0) {  // [features · others]
      const auto inner = feature.stride / stride;
      if (feature.size > 1 && size == inner * feature.size) return FeaturePart{{feature.size, inner, true}, &feature};
    }
  }
  return std::nullopt;
}

void Flow::copyFeatures(const at::Tensor& source, const at::Tensor& result) {
  const auto* note = find(source);
  if (!note || !(note->layer || !note->features.empty()) || result.dim() < source.dim() ||
      storageOf(source) == storageOf(result)) {
    return;
  }
  std::vector<Feature> features;
  for (int64_t dim = 0; dim < source.dim(); ++dim) {
    const auto to = dim + result.dim() - source.dim();
    if (result.size(to) != source.size(dim)) continue;
    if (const auto* feature = featureAlong(source, dim)) {
      features.push_back(
          {result.stride(to), source.size(dim), feature->layer, feature->stacked, feature->whole});
    } else if (const auto part = featurePart(source, dim)) {
      const auto& [lead, of] = *part;
      features.push_back({result.stride(to) * (lead.headsFirst ? lead.inner : 1),
                          lead.headsFirst ? lead.outer : lead.inner, of->layer, of->stacked, of->whole});
    }
  }
  const bool layer = note->layer;
  auto& copy = noteOf(result);
  if (!features.empty()) copy.features = std::move(features);
  copy.layer = layer;
}

bool Flow::isPositions(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || !note->layer || tensor.size(dim) < 2) return false;
  const auto stride = tensor.stride(dim), reach = stride * tensor.size(dim);
  return std::none_of(note->features.begin(), note->features.end(), [&](const Feature& feature) {
    const auto end = feature.stride * feature.size;
    return feature.size > 1 &&
           ((stride >= feature.stride && stride < end) || (feature.stride >= stride && feature.stride < reach));
  });
}

}  // namespace lta::flow
