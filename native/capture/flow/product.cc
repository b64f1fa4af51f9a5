#include "capture/flow/product.h"

#include <algorithm>

namespace lta::flow {
namespace {

// Leading dimensions that are broadcast, then one of each operand.
Product broadcast(int64_t dimsA, int64_t dimsB, int64_t rowA, int64_t columnB) {
  Product product;
  const auto dims = std::max(dimsA, dimsB);
  for (int64_t dim = 0; dim < dims - 2; ++dim) {
    product.a.push_back(std::max<int64_t>(dim - (dims - dimsA), kForeign));
    product.b.push_back(std::max<int64_t>(dim - (dims - dimsB), kForeign));
  }
  product.a.insert(product.a.end(), {rowA, kForeign});
  product.b.insert(product.b.end(), {kForeign, columnB});
  product.row = dims - 2;
  product.column = dims - 1;
  return product;
}

Product ofMatrices(int64_t dimsA, int64_t dimsB) {
  auto product = broadcast(dimsA, dimsB, dimsA - 2, dimsB - 1);
  product.summedA = dimsA - 1;
  product.summedB = dimsB - 2;
  return product;
}

Product ofVector(int64_t dimsA) {
  Product product;
  for (int64_t dim = 0; dim < dimsA - 1; ++dim) product.a.push_back(dim);
  product.b.assign(product.a.size(), kForeign);
  product.summedA = dimsA - 1;
  product.row = dimsA - 2;
  return product;
}

Product swapped(Product product) {
  std::swap(product.a, product.b);
  std::swap(product.summedA, product.summedB);
  std::swap(product.row, product.column);
  return product;
}

}  // namespace

Product productOf(Does does, const at::Tensor& a, const at::Tensor& b) {
  const auto dimsA = a.dim(), dimsB = b.dim();
  switch (does) {
    case Does::Linear: {
      auto product = ofVector(dimsA);
      product.summedB = dimsB - 1;
      if (dimsB < 2) return product;
      product.a.push_back(kForeign);
      product.b.push_back(0);
      product.column = dimsA - 1;
      return product;
    }
    case Does::Distance: {
      auto product = broadcast(dimsA, dimsB, dimsA - 2, dimsB - 2);
      product.summedA = dimsA - 1;
      product.summedB = dimsB - 1;
      return product;
    }
    default:
      if (dimsB == 1) return ofVector(dimsA);
      if (dimsA > 1) return ofMatrices(dimsA, dimsB);
      // A vector before a matrix: the matrix is summed over its last dimension but one.
      auto product = swapped(ofVector(dimsB));
      product.summedA = 0;
      product.summedB = dimsB - 2;
      if (!product.b.empty()) product.b.back() = dimsB - 1;
      return product;
  }
}

}  // namespace lta::flow
