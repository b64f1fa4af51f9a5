// Operands of products read as [leading dimensions…, queries, keys].
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "capture/flow/layout.h"
#include "capture/flow/value.h"

namespace lta::flow {

// How an operand of a product, or its gradient, is read as [leading dimensions…, queries, keys].
class Arrangement {
 public:
  Arrangement() = default;
  // `operand` is a view of `matrix`, whose dimensions `query` (kNone: there is one query) and `key` are known.
  Arrangement(const Matrix& matrix, const View& view, int64_t query, int64_t key);

  // A view where `tensor` has the operand's strides.
  at::Tensor operator()(const at::Tensor& tensor) const { return arranged(tensor, /*gradient=*/false); }
  at::Tensor ofGradient(const at::Tensor& gradient) const { return arranged(gradient, /*gradient=*/true); }

  // Of the whole matrix, in that order.
  const std::vector<int64_t>& sizes() const { return sizes_; }
  // Whether the operand is the whole matrix; else `coordinates` are those of its part along each dimension.
  bool isWhole() const { return whole_; }
  const std::vector<std::vector<int64_t>>& coordinates() const { return coordinates_; }
  // The same with one dimension for each of the matrix's, where a view had split some.
  at::Tensor part(const at::Tensor& tensor, bool gradient) const;

 private:
  at::Tensor arranged(const at::Tensor& tensor, bool gradient) const;
  void joinLast(int64_t leading);
  std::vector<int64_t> partSizes() const;

  std::vector<int64_t> factors_;  // sizes of the operand's dimensions, split
  std::vector<int64_t> foreign_;  // places of those that aren't the matrix's
  std::vector<int64_t> order_;    // of the others
  std::vector<int64_t> shape_;    // with dimensions of size 1 where the operand has none
  std::vector<int64_t> sizes_;
  std::vector<std::vector<int64_t>> coordinates_;
  bool whole_ = true;
  // Heads or queries of several dimensions are one, or there is a dimension for a batch of one.
  bool regrouped_ = false;
};

}  // namespace lta::flow
