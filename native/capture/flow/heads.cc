// How heads are told from the batch, from positions and from windows.
#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "capture/flow/flow.h"

namespace lta::flow {

std::optional<Lead> Flow::leadOf(const at::Tensor& tensor) const {
  if (tensor.dim() != 3) return std::nullopt;
  if (const auto parts = featureParts(tensor, 0); !parts.empty()) {
    const auto all = [&](auto begin, auto end, bool features) {
      return std::all_of(begin, end, [&](const FeaturePart& part) { return mayBeHeads(part.feature) == features; });
    };
    for (size_t cut = 1; cut < parts.size(); ++cut) {
      const auto middle = parts.begin() + static_cast<std::ptrdiff_t>(cut);
      const bool headsFirst = mayBeHeads(parts.front().feature);
      if (!all(parts.begin(), middle, headsFirst) || !all(middle, parts.end(), !headsFirst)) continue;
      const auto outer = std::accumulate(parts.begin(), middle, int64_t{1},
                                         [](int64_t size, const FeaturePart& part) { return size * part.size; });
      return Lead{outer, tensor.size(0) / outer, headsFirst};
    }
  }
  const auto* note = find(tensor);
  if (!note || !note->lead || note->lead->outer * note->lead->inner != tensor.size(0)) return std::nullopt;
  return note->lead;
}

std::optional<int64_t> Flow::headsOf(const at::Tensor& tensor) const {
  const auto last = tensor.dim() - 3;
  if (last < 2 || mayBeHeads(featureAlong(tensor, last))) return std::nullopt;
  std::optional<int64_t> heads;
  for (int64_t dim = 0; dim < last; ++dim) {
    if (!mayBeHeads(featureAlong(tensor, dim))) continue;
    if (heads) return std::nullopt;
    heads = dim;
  }
  return heads;
}

int64_t Flow::headDimsOf(const at::Tensor& tensor) const {
  const auto leading = tensor.dim() - 2;
  int64_t heads = 0;
  while (heads + 1 < leading && mayBeHeads(featureAlong(tensor, leading - 1 - heads))) ++heads;
  return std::max<int64_t>(heads, 1);
}

bool Flow::headsGuessed(const at::Tensor& tensor) const {
  const auto last = tensor.dim() - 3;
  if (last < 1) return false;
  for (int64_t dim = 0; dim <= last; ++dim) {
    if (featureAlong(tensor, dim) || !featureParts(tensor, dim).empty()) return false;
  }
  return tensor.size(last) > 1 && isPositions(tensor, last);
}

// Whether `last` was ahead of another of the dimensions that it follows now, as batch was of heads that a view had cut
// off the features.
bool Flow::isOutOfOrder(const at::Tensor& tensor, const std::vector<int64_t>& from, int64_t last) {
  const auto strideAt = [&](int64_t dim) {
    const auto of = from[static_cast<size_t>(dim)];
    return of < 0 || tensor.size(of) < 2 ? 0 : tensor.stride(of);
  };
  for (int64_t dim = 0; dim < last; ++dim) {
    if (strideAt(dim) > 0 && strideAt(dim) < strideAt(last)) return true;
  }
  return false;
}

// Heads are what a layer made of the values, where the weights don't tell theirs.
void Flow::headsOfValues(const Operand& weights, const std::vector<int64_t>& ofWeights, const at::Tensor& values,
                         const std::vector<int64_t>& ofValues) {
  auto& matrix = weights.matrix();
  const auto isLead = [&](int64_t dim) {
    return dim != kForeign && dim != matrix.key && dim != matrix.query &&
           matrix.roles[static_cast<size_t>(dim)] != Role::Free;
  };
  for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
    if (isLead(dim) && matrix.isFeature(dim)) return;
  }
  matrix.features.resize(matrix.sizes.size());
  auto joint = kNone;  // one that batch and heads are, as the values tell
  const auto mark = [&](int64_t dim) {
    if (!isLead(dim)) return;
    matrix.features[static_cast<size_t>(dim)] = true;
    matrix.headsGuessed = false;
  };
  for (size_t dim = 0; dim < ofWeights.size(); ++dim) {
    if (ofWeights[dim] < 0 || ofValues[dim] < 0) continue;
    const auto& components = weights.view->dims[static_cast<size_t>(ofWeights[dim])];
    if (components.size() == 1 && featureAlong(values, ofValues[dim])) mark(components.front().span.dim);
    if (components.size() < 2) continue;
    const auto parts = featureParts(values, ofValues[dim]);
    if (parts.size() != components.size()) continue;
    if (components.front().span.dim == components.back().span.dim) {
      joint = components.front().span.dim;
      continue;
    }
    for (size_t part = 0; part < parts.size(); ++part) {
      if (parts[part].feature && parts[part].size == components[part].span.size) mark(components[part].span.dim);
    }
  }
  if (isLead(joint)) splitHeads(weights, joint, ofWeights, values, ofValues);
}

// Makes two dimensions of one that batch and heads are, which the weights are a view of already.
void Flow::splitHeads(const Operand& weights, int64_t joint, const std::vector<int64_t>& ofWeights,
                      const at::Tensor& values, const std::vector<int64_t>& ofValues) {
  const auto& old = weights.matrix();
  const auto& view = *weights.view;
  int64_t outer = 1;
  for (const auto size : old.sizes) outer *= size;
  if (!view.fixed.empty() || outer != weights.tensor.numel()) return;
  std::vector<int64_t> sizes;
  std::vector<bool> features;
  for (size_t dim = 0; dim < ofWeights.size(); ++dim) {
    if (ofWeights[dim] < 0 || ofValues[dim] < 0 || !view.has(ofWeights[dim], joint)) continue;
    for (const auto& part : featureParts(values, ofValues[dim])) {
      sizes.push_back(part.size);
      features.push_back(part.feature != nullptr);
    }
  }
  std::vector<std::vector<Span>> spans;
  size_t parts = 0;
  const auto more = static_cast<int64_t>(sizes.size()) - 1;
  const auto now = [&](int64_t dim) { return dim == kNone || dim < joint ? dim : dim + more; };
  for (const auto& components : view.dims) {
    auto& at = spans.emplace_back();
    for (const auto& component : components) {
      auto span = component.span;
      if (span.dim == joint) {
        if (parts == sizes.size() || span.size != sizes[parts]) return;
        span = {joint + static_cast<int64_t>(parts++), 0, 1, span.size};
      } else if (span.dim != kForeign) {
        span.dim = now(span.dim);
      }
      at.push_back(span);
    }
  }
  if (parts != sizes.size()) return;
  auto matrix = old.relative();
  matrix->parents = {weights.value().matrix};
  matrix->headsGuessed = false;
  for (int64_t dim = 0; dim < old.dims(); ++dim) {
    const auto was = static_cast<size_t>(dim);
    for (size_t part = 0; part < (dim == joint ? sizes.size() : 1); ++part) {
      matrix->sizes.push_back(dim == joint ? sizes[part] : old.sizes[was]);
      matrix->roles.push_back(old.roles[was]);
      matrix->features.push_back(dim == joint ? features[part] : old.isFeature(dim));
      matrix->copied.push_back(old.isCopied(dim));
    }
  }
  matrix->key = now(old.key);
  matrix->query = now(old.query);
  matrix->fixed = now(old.fixed);
  Value value = weights.value();
  value.normalized = now(value.normalized);
  value.lessLogSum = now(value.lessLogSum);
  value.matrix = std::move(matrix);
  auto& note = noteOf(weights.tensor);
  note.layout = layoutOf(weights.tensor, spans, {});
  note.value = std::make_shared<Value>(std::move(value));
}

}  // namespace lta::flow
