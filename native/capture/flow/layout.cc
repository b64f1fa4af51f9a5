#include "capture/flow/layout.h"

#include <algorithm>
#include <utility>

namespace lta::flow {

bool View::has(int64_t tensorDim, int64_t matrixDim) const {
  const auto& components = dims[static_cast<size_t>(tensorDim)];
  return std::any_of(components.begin(), components.end(),
                     [&](const Component& component) { return component.span.dim == matrixDim; });
}

bool View::has(int64_t matrixDim) const {
  for (size_t dim = 0; dim < dims.size(); ++dim) {
    if (has(static_cast<int64_t>(dim), matrixDim)) return true;
  }
  return false;
}

bool View::covers(int64_t matrixDim, int64_t size) const {
  int64_t here = 1;
  for (const auto& components : dims) {
    for (const auto& component : components) {
      if (component.span.dim == matrixDim) here *= component.span.size;
    }
  }
  return here == size;
}

Layout::Layout(int64_t offset, std::vector<Component> axes, std::vector<Span> fixed)
    : offset_(offset), axes_(std::move(axes)), fixed_(std::move(fixed)) {
  std::stable_sort(axes_.begin(), axes_.end(),
                   [](const Component& a, const Component& b) { return a.stride > b.stride; });
}

// Without elements strides tell nothing: dimensions are those of the matrix in their order, the first ones merged.
std::optional<View> Layout::emptyView(const at::Tensor& tensor) const {
  const auto dims = static_cast<size_t>(tensor.dim());
  if (dims == 0 || axes_.size() < dims) return std::nullopt;
  View view;
  view.fixed = fixed_;
  size_t next = 0;
  for (size_t dim = 0; dim < dims; ++dim) {
    auto& components = view.dims.emplace_back();
    int64_t size = 1;
    do {
      const auto& span = axes_[next++].span;
      size *= span.size;
      if (span.size != 1) components.push_back({span, tensor.stride(static_cast<int64_t>(dim))});
    } while (axes_.size() - next > dims - 1 - dim);
    if (size != tensor.size(static_cast<int64_t>(dim))) return std::nullopt;
  }
  return view;
}

std::optional<View> Layout::view(const at::Tensor& tensor) const {
  if (tensor.numel() == 0) return emptyView(tensor);
  auto rest = tensor.storage_offset() - offset_;
  if (rest < 0) return std::nullopt;
  // Where the tensor begins, along each axis.
  std::vector<int64_t> first(axes_.size(), 0);
  for (size_t i = 0; i < axes_.size(); ++i) {
    if (axes_[i].span.size == 0 || axes_[i].stride == 0) continue;
    first[i] = rest / axes_[i].stride;
    if (first[i] >= axes_[i].span.size) return std::nullopt;
    rest %= axes_[i].stride;
  }
  if (rest != 0) return std::nullopt;

  View view;
  view.fixed = fixed_;
  std::vector<bool> used(axes_.size(), false);
  // How far the dimensions so far go along each axis. What goes beyond its end is in the next row: a diagonal.
  std::vector<int64_t> reach = first;
  const auto along = [&](size_t axis, int64_t step, int64_t size, int64_t stride) {
    const auto& span = axes_[axis].span;
    // The place where the axis begins counts once, however many dimensions go along it.
    const auto start = used[axis] ? 0 : span.start + span.step * first[axis];
    used[axis] = true;
    reach[axis] += step * (size - 1);
    return Component{{span.dim, start, span.step * step, size}, stride};
  };
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    auto& components = view.dims.emplace_back();
    auto size = tensor.size(dim);
    auto stride = tensor.stride(dim);
    if (size == 1) continue;
    if (stride == 0 && size != 0) {
      components.push_back({{kForeign, 0, 1, size}, 0});
      continue;
    }
    while (size != 1) {
      size_t axis = 0;
      while (axis < axes_.size() &&
             (axes_[axis].stride > stride || stride % std::max<int64_t>(axes_[axis].stride, 1) != 0 ||
              axes_[axis].span.size == 1)) {
        ++axis;
      }
      if (axis == axes_.size()) return std::nullopt;
      const auto length = axes_[axis].span.size;
      const auto step = stride / std::max<int64_t>(axes_[axis].stride, 1);
      if (step * (size - 1) + reach[axis] < length || size == 0) {
        components.insert(components.begin(), along(axis, step, size, stride));
        break;
      }
      // More than this axis: all of it, and the next one.
      if (step != 1 || reach[axis] != 0 || length == 0 || size % length != 0) return std::nullopt;
      components.insert(components.begin(), along(axis, 1, length, stride));
      size /= length;
      stride *= length;
    }
  }
  for (size_t axis = 0; axis < axes_.size(); ++axis) {
    if (used[axis] || axes_[axis].span.dim == kForeign) continue;
    const auto& span = axes_[axis].span;
    view.fixed.push_back({span.dim, span.start + span.step * first[axis], 1, 1});
  }
  return view;
}

Layout layoutOf(const at::Tensor& tensor, const std::vector<std::vector<Span>>& dims, std::vector<Span> fixed) {
  std::vector<Component> axes;
  for (size_t dim = 0; dim < dims.size(); ++dim) {
    auto stride = tensor.stride(static_cast<int64_t>(dim));
    for (auto span = dims[dim].rbegin(); span != dims[dim].rend(); ++span) {
      axes.push_back({*span, stride});
      stride *= span->size;
    }
  }
  return Layout(tensor.storage_offset(), std::move(axes), std::move(fixed));
}

}  // namespace lta::flow
