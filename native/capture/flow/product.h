// The dimensions of products.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "capture/flow/layout.h"
#include "capture/flow/rules.h"

namespace lta::flow {

// Which dimension of the operands each dimension of a product's result is (kForeign: it has none), and which ones it is
// summed over.
struct Product {
  std::vector<int64_t> a, b;  // by dimension of the result
  int64_t summedA = 0, summedB = 0;
  int64_t row = kForeign;     // the last dimension of the result that is `a`'s alone
  int64_t column = kForeign;  // the one that is `b`'s alone
};

// Of operands whose sizes fit the operator.
Product productOf(Does does, const at::Tensor& a, const at::Tensor& b);

}  // namespace lta::flow
