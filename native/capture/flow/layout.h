// Views of matrices told by their strides.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace lta::flow {

// Coordinates along one dimension of a matrix: start, start + step, … (size of them). Where several spans go along one
// dimension, their coordinates add up.
struct Span {
  int64_t dim;
  int64_t start = 0;
  int64_t step = 1;
  int64_t size = 1;
};

// Stands for a dimension that the matrix doesn't have: another tensor's, or one that was expanded.
inline constexpr int64_t kForeign = -1;

// What a dimension of a tensor, or a factor of one, goes along.
struct Component {
  Span span;
  int64_t stride;  // in elements of the tensor's storage
};

// A tensor as a view of a matrix.
struct View {
  std::vector<std::vector<Component>>
      dims;                 // of each dimension of the tensor, outermost first; none where it has size 1
  std::vector<Span> fixed;  // along dimensions that the tensor has one coordinate of

  bool has(int64_t tensorDim, int64_t matrixDim) const;
  bool has(int64_t matrixDim) const;
  // Whether it has all coordinates along a dimension, which are so many.
  bool covers(int64_t matrixDim, int64_t size) const;
};

// Where the elements of a matrix lie in a storage. Views share it, whatever permuted, sliced, merged and split them:
// strides and offset of a tensor tell which part of the matrix it is.
class Layout {
 public:
  Layout() = default;
  Layout(int64_t offset, std::vector<Component> axes, std::vector<Span> fixed);

  // None where the tensor isn't made of parts of the matrix's dimensions (a diagonal, an overlapping window).
  std::optional<View> view(const at::Tensor& tensor) const;

 private:
  std::optional<View> emptyView(const at::Tensor& tensor) const;

  int64_t offset_ = 0;
  std::vector<Component> axes_;  // the largest stride first
  std::vector<Span> fixed_;
};

// A tensor with memory of its own whose dimensions go along `dims` (outermost first).
Layout layoutOf(const at::Tensor& tensor, const std::vector<std::vector<Span>>& dims, std::vector<Span> fixed);

}  // namespace lta::flow
