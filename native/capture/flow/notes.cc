#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace lta::flow {
namespace {

constexpr int64_t kSweepAt = 64;

// Strides of features are those of real numbers, as a view of complex ones as real ones has them.
int64_t strideOf(const at::Tensor& tensor, int64_t dim) { return tensor.stride(dim) * (tensor.is_complex() ? 2 : 1); }

}  // namespace

const void* Flow::placeOf(const at::Tensor& weight) {
  const auto* const storage = storageOf(weight);
  return storage ? reinterpret_cast<const char*>(storage) + weight.storage_offset() : nullptr;
}

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
  note.table = note.byTable = false;
  note.tables.clear();
  note.by = nullptr;
  note.summed = note.gates = false;
  note.constant.clear();
  note.writtenOut.reset();
  note.gated.reset();
  note.pooled.reset();
  note.chosen.reset();
  note.lost.reset();
  note.weighs.reset();
  note.mixes.reset();
  note.fixed = Fixed::No;
  note.raised.reset();
  note.raisedSum.reset();
  note.lead.reset();
  note.joined.reset();
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

const Flow::Feature* Flow::featureAlong(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || dim < 0 || tensor.size(dim) < 2) return nullptr;
  const auto stride = strideOf(tensor, dim);
  for (const auto& feature : note->features) {
    if (stride % feature.stride != 0) continue;
    const auto reach = stride / feature.stride * (tensor.size(dim) - 1);
    // A slice may begin in one block of them, and end in the next.
    const auto first = tensor.storage_offset() / feature.stride % feature.size;
    if (first + reach < feature.size) return &feature;
  }
  return nullptr;
}

std::vector<Flow::FeaturePart> Flow::featureParts(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || dim < 0 || featureAlong(tensor, dim)) return {};
  auto left = tensor.size(dim), stride = strideOf(tensor, dim);
  if (left < 4 || stride < 1) return {};
  std::vector<FeaturePart> parts;  // innermost first
  while (left > 1) {
    const Feature* next = nullptr;  // that begins here, or behind
    int64_t size = left;
    for (const auto& feature : note->features) {
      const auto reach = feature.stride * feature.size;
      if (feature.size < 2) continue;
      if (stride % feature.stride == 0 && reach > stride && reach % stride == 0) {
        next = &feature;
        size = std::min(left, reach / stride);
        break;
      }
      if (feature.stride > stride && feature.stride % stride == 0 && feature.stride / stride < size) {
        size = feature.stride / stride;
      }
    }
    if (size < 1 || left % size != 0) return {};
    parts.push_back({size, stride, next});
    left /= size;
    stride *= size;
  }
  if (parts.size() < 2) return {};
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Flow::Feature> Flow::featuresAt(const at::Tensor& tensor, const std::vector<int64_t>& strides) const {
  std::vector<Feature> features;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    const auto to = strides[static_cast<size_t>(dim)];
    if (const auto* feature = featureAlong(tensor, dim)) {
      features.push_back(*feature);
      features.back().stride = to;
      features.back().size = tensor.size(dim);
      continue;
    }
    for (const auto& [size, stride, of] : featureParts(tensor, dim)) {
      if (!of) continue;
      features.push_back(*of);
      features.back().stride = to * (stride / strideOf(tensor, dim));
      features.back().size = size;
    }
  }
  return features;
}

void Flow::copyFeatures(const at::Tensor& source, const at::Tensor& result) {
  const auto* note = find(source);
  if (!note || !(note->layer || !note->features.empty()) || result.dim() < source.dim() ||
      storageOf(source) == storageOf(result)) {
    return;
  }
  const auto more = result.dim() - source.dim();
  std::vector<int64_t> strides;
  for (int64_t dim = 0; dim < source.dim(); ++dim) {
    // Of what is broadcast or was expanded, nothing is known.
    const bool same = result.size(dim + more) == source.size(dim) && source.stride(dim) != 0;
    strides.push_back(same ? strideOf(result, dim + more) : 0);
  }
  auto features = featuresAt(source, strides);
  std::erase_if(features, [](const Feature& feature) { return feature.stride == 0; });
  // Those that were picked, or to which some were added, are features still.
  for (int64_t dim = 0; dim < source.dim(); ++dim) {
    const auto size = result.size(dim + more);
    const auto* feature = featureAlong(source, dim);
    if (!feature || size < 2 || size == source.size(dim)) continue;
    features.push_back({strideOf(result, dim + more), size, feature->layer, feature->stacked, size});
    features.back().chosen = feature->chosen || size < source.size(dim);
  }
  const bool layer = note->layer, summed = note->summed;
  const auto* const by = note->by;
  auto& copy = noteOf(result);
  // What several operands made has the features of each: values that gates of heads multiply are still values.
  for (auto& feature : features) {
    const bool known = std::any_of(copy.features.begin(), copy.features.end(),
                                   [&](const Feature& each) { return each.stride == feature.stride; });
    if (!known) copy.features.push_back(feature);
  }
  copy.layer = copy.layer || layer;
  copy.by = by;
  copy.summed = summed;
}

bool Flow::varies(const at::Tensor& tensor, int64_t dim) const {
  if (dim < 0 || tensor.size(dim) < 2 || tensor.stride(dim) == 0) return false;
  const auto* note = find(tensor);
  return !note || std::none_of(note->constant.begin(), note->constant.end(), [&](const auto& each) {
    return each == std::pair(tensor.stride(dim), tensor.size(dim));
  });
}

bool Flow::isPositions(const at::Tensor& tensor, int64_t dim) const {
  const auto* note = find(tensor);
  if (!note || !note->layer || dim < 0 || tensor.size(dim) < 2) return false;
  const auto stride = strideOf(tensor, dim), reach = stride * tensor.size(dim);
  return std::none_of(note->features.begin(), note->features.end(), [&](const Feature& feature) {
    const auto end = feature.stride * feature.size;
    return feature.size > 1 &&
           ((stride >= feature.stride && stride < end) || (feature.stride >= stride && feature.stride < reach));
  });
}

}  // namespace lta::flow
