#include "capture/flow/arrangement.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace lta::flow {
namespace {

// All that spans along one dimension reach, the first span outermost.
std::vector<int64_t> coordinatesOf(const std::vector<Span>& spans) {
  std::vector<int64_t> all{0};
  for (const auto& span : spans) {
    std::vector<int64_t> next;
    next.reserve(all.size() * static_cast<size_t>(span.size));
    for (const auto before : all) {
      for (int64_t i = 0; i < span.size; ++i) next.push_back(before + span.start + i * span.step);
    }
    all = std::move(next);
  }
  return all;
}

bool isIdentity(const std::vector<Span>& spans, int64_t size) {
  if (spans.size() == 1) return spans[0].start == 0 && spans[0].step == 1 && spans[0].size == size;
  const auto all = coordinatesOf(spans);
  if (static_cast<int64_t>(all.size()) != size) return false;
  for (int64_t i = 0; i < size; ++i) {
    if (all[static_cast<size_t>(i)] != i) return false;
  }
  return true;
}

}  // namespace

Arrangement::Arrangement(const Matrix& matrix, const View& view, int64_t query, int64_t key) {
  std::vector<int64_t> dims;  // of the matrix, in the order of the result
  // Heads, which a layer made of its features, stand behind the batch.
  const auto isHeads = [&](int64_t dim) { return matrix.isFeature(dim); };
  for (int64_t dim = 0; dim < matrix.dims(); ++dim) {
    // One of size one between queries and keys says nothing.
    const bool between = query != kNone && dim > query && dim < key && matrix.sizes[static_cast<size_t>(dim)] == 1;
    if (dim != query && dim != key && !between) dims.push_back(dim);
  }
  std::stable_sort(dims.begin(), dims.end(), [&](int64_t a, int64_t b) { return !isHeads(a) && isHeads(b); });
  dims.push_back(query);
  dims.push_back(key);

  struct Factor {
    Span span;
    int64_t place;
  };
  std::vector<Factor> factors;
  for (const auto& components : view.dims) {
    for (const auto& component : components) {
      const auto place = static_cast<int64_t>(factors_.size());
      factors_.push_back(component.span.size);
      if (component.span.dim == kForeign) {
        foreign_.push_back(place);
      } else {
        factors.push_back({component.span, place});
      }
    }
  }
  const auto shift = [&](int64_t place) {  // once the foreign ones are gone
    return place - std::count_if(foreign_.begin(), foreign_.end(), [&](int64_t each) { return each < place; });
  };
  bool allKeys = false;
  for (const auto dim : dims) {
    std::vector<Span> spans;
    for (const auto& [span, place] : factors) {
      if (span.dim != dim || dim == kNone) continue;
      spans.push_back(span);
      order_.push_back(shift(place));
      shape_.push_back(span.size);
    }
    if (spans.empty()) shape_.push_back(1);
    regrouped_ = regrouped_ || (dim == query && spans.size() > 1);
    const auto size = dim == kNone ? 1 : matrix.sizes[static_cast<size_t>(dim)];
    sizes_.push_back(size);
    for (const auto& span : view.fixed) {
      if (span.dim == dim && dim != kNone) spans.push_back(span);
    }
    if (spans.empty()) spans.push_back({dim, 0, 1, 1});
    // Split, but in another order than the matrix's own: coordinates tell.
    const bool identity = isIdentity(spans, size);
    whole_ = whole_ && identity;
    if (dim == key) allKeys = identity;
    coordinates_.push_back(coordinatesOf(spans));
  }
  // A softmax over queries and keys at once.
  const bool overPairs = query == kNone && key != kNone && allKeys && sizes_.back() > shape_.back();
  if (overPairs && shape_.size() == dims.size() + 1) {
    shape_.erase(shape_.end() - 3);
    for (const size_t last : {size_t{1}, size_t{2}}) {
      auto& coordinates = coordinates_[coordinates_.size() - last];
      auto& size = sizes_[sizes_.size() - last];
      size = shape_[shape_.size() - last];
      coordinates.resize(static_cast<size_t>(size));
      std::iota(coordinates.begin(), coordinates.end(), 0);
    }
  }
  // Heads that share keys in groups have two dimensions.
  auto leading = static_cast<int64_t>(dims.size()) - 2;
  for (; leading > 1 && isHeads(dims[static_cast<size_t>(leading - 1)]) &&
         isHeads(dims[static_cast<size_t>(leading - 2)]);
       --leading) {
    joinLast(leading);
    regrouped_ = true;
  }
  if (leading == 1 && isHeads(dims.front())) {
    sizes_.insert(sizes_.begin(), 1);
    coordinates_.insert(coordinates_.begin(), {0});
    regrouped_ = true;
  }
}

// Makes one of the last two leading dimensions.
void Arrangement::joinLast(int64_t leading) {
  const auto outer = static_cast<size_t>(leading - 2), inner = static_cast<size_t>(leading - 1);
  std::vector<int64_t> joined;
  for (const auto i : coordinates_[outer]) {
    for (const auto j : coordinates_[inner]) joined.push_back(i * sizes_[inner] + j);
  }
  coordinates_[outer] = std::move(joined);
  sizes_[outer] *= sizes_[inner];
  coordinates_.erase(coordinates_.begin() + leading - 1);
  sizes_.erase(sizes_.begin() + leading - 1);
}

at::Tensor Arrangement::arranged(const at::Tensor& tensor, bool gradient) const {
  auto arranged = tensor.reshape(factors_);
  for (auto place = foreign_.rbegin(); place != foreign_.rend(); ++place) {
    // What was expanded is the same everywhere; its gradients add up.
    arranged = gradient ? arranged.sum(*place) : arranged.select(*place, 0);
  }
  arranged = arranged.permute(order_);
  return regrouped_ ? arranged.reshape(partSizes()) : arranged.reshape(shape_);
}

at::Tensor Arrangement::part(const at::Tensor& tensor, bool gradient) const {
  return arranged(tensor, gradient).reshape(partSizes());
}

std::vector<int64_t> Arrangement::partSizes() const {
  std::vector<int64_t> sizes;
  for (const auto& each : coordinates_) sizes.push_back(static_cast<int64_t>(each.size()));
  return sizes;
}

}  // namespace lta::flow
