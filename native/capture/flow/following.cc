#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "capture/flow/dimensions.h"

namespace lta::flow {
namespace {

bool isFixedAlong(const View& view, int64_t dim) {
  return std::any_of(view.fixed.begin(), view.fixed.end(), [&](const Span& span) { return span.dim == dim; });
}

}  // namespace

void Flow::follow(const Operand& source, const at::Tensor& result, const std::vector<int64_t>& from,
                  const std::vector<bool>& changed, bool combined, Value value, std::vector<MatrixPtr> others) {
  if (!storageOf(result) || result.is_nested() || result.layout() != at::kStrided) return;
  const auto& old = source.matrix();
  const auto& view = *source.view;
  const auto dims = static_cast<size_t>(result.dim());
  const auto kept = [&](size_t dim) {
    if (from[dim] < 0 || changed[dim]) return false;
    return source.tensor.size(from[dim]) == result.size(static_cast<int64_t>(dim));
  };
  // Copies of what was expanded are alike.
  const bool copies = value.version == source.value().version;
  bool same = !combined && others.empty();
  for (size_t dim = 0; dim < dims && same; ++dim) {
    if (!kept(dim)) {
      same = result.size(static_cast<int64_t>(dim)) == 1 && from[dim] < 0;
      continue;
    }
    for (const auto& component : view.dims[static_cast<size_t>(from[dim])])
      same = same && (copies || component.span.dim != kForeign);
  }
  std::vector<std::vector<Span>> spans(dims);
  if (same) {
    for (size_t dim = 0; dim < dims; ++dim) {
      if (!kept(dim)) continue;
      for (const auto& component : view.dims[static_cast<size_t>(from[dim])]) spans[dim].push_back(component.span);
    }
    auto& note = newNote(result);
    note.layout = layoutOf(result, spans, view.fixed);
    note.value = std::make_shared<Value>(std::move(value));
    copyFeatures(source.tensor, result);
    return;
  }

  // A matrix of its own.
  struct Dimension {
    int64_t size;
    int64_t old;
    size_t of;  // dimension of the result; `dims` where it has none
    bool expanded = false;
  };
  std::vector<Dimension> made;
  for (size_t dim = 0; dim < dims; ++dim) {
    const auto size = result.size(static_cast<int64_t>(dim));
    const auto* components = from[dim] < 0 ? nullptr : &view.dims[static_cast<size_t>(from[dim])];
    if (kept(dim)) {
      for (const auto& component : *components) made.push_back({component.span.size, component.span.dim, dim});
    } else if (components && !components->empty()) {
      made.push_back({size, components->back().span.dim, dim});
    } else if (size != 1) {
      made.push_back({size, kForeign, dim, components != nullptr});
    }
  }
  const auto ofOneOrigin = [&] {
    return std::any_of(others.begin(), others.end(),
                       [&](const MatrixPtr& other) { return old.descendsFrom(*other) || other->descendsFrom(old); });
  };
  const auto placeOf = [&](int64_t dim) {
    for (auto place = static_cast<int64_t>(made.size()) - 1; place >= 0; --place) {
      if (made[static_cast<size_t>(place)].old == dim) return place;
    }
    return kNone;
  };
  for (int64_t dim = 0; dim < old.dims(); ++dim) {
    if (old.sizes[static_cast<size_t>(dim)] != 1 || placeOf(dim) != kNone) continue;
    // One that was repeated stands for a dimension that had size one, unless that may be the only key of weights that
    // multiply features of another origin.
    const bool onlyKey = old.key == kNone && value.stage == Stage::Weights &&
                         old.roles[static_cast<size_t>(dim)] == Role::Free && !ofOneOrigin();
    const auto expanded = std::find_if(made.begin(), made.end(), [&](const Dimension& each) {
      return each.expanded && each.old == kForeign && dim != old.key && dim != old.query && !onlyKey;
    });
    if (expanded != made.end()) {
      expanded->old = dim;
      continue;
    }
    int64_t place = 0;
    for (auto earlier = dim - 1; earlier >= 0; --earlier) {
      const auto found = placeOf(earlier);
      if (found == kNone) continue;
      place = found + 1;
      break;
    }
    made.insert(made.begin() + place, {1, dim, dims});
  }
  const auto lost = [&](int64_t dim) { return dim != kNone && placeOf(dim) == kNone; };
  if (lost(old.key) || (lost(old.query) && !isFixedAlong(view, old.query))) return;
  if (old.key == kNone) {
    for (int64_t dim = 0; dim < old.dims(); ++dim) {
      if (old.roles[static_cast<size_t>(dim)] == Role::Free && lost(dim) && !isFixedAlong(view, dim)) return;
    }
  }

  auto matrix = old.relative();
  matrix->parents = std::move(others);
  matrix->parents.push_back(source.value().matrix);
  for (size_t place = 0; place < made.size(); ++place) {
    const auto& dimension = made[place];
    const auto was = static_cast<size_t>(dimension.old);
    const bool own = dimension.old != kForeign;
    matrix->sizes.push_back(dimension.size);
    matrix->roles.push_back(own ? old.roles[was] : Role::Lead);
    matrix->features.push_back(own && was < old.features.size() && old.features[was]);
    matrix->copied.push_back(own ? old.isCopied(dimension.old) : dimension.expanded);
    if (dimension.of < dims) spans[dimension.of].push_back({static_cast<int64_t>(place), 0, 1, dimension.size});
  }
  const auto now = [&](int64_t dim) { return dim == kNone ? kNone : placeOf(dim); };
  matrix->key = now(old.key);
  matrix->query = now(old.query);
  matrix->fixed = now(old.fixed);
  value.normalized = now(value.normalized);
  value.lessLogSum = now(value.lessLogSum);
  value.matrix = std::move(matrix);
  auto& note = newNote(result);
  note.layout = layoutOf(result, spans, {});
  note.value = std::make_shared<Value>(std::move(value));
}

}  // namespace lta::flow
