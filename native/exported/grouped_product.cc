#include "exported/grouped_product.h"

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "runtime/error.h"
#include "torch/dispatcher.h"

namespace lta::exported {
namespace {

// Rows of `input` [S, I] times the weights of their expert, `weight` [E, I, O]: the first `ends[0]` rows those of the
// first, the next up to `ends[1]` those of the second, and so on. Rows beyond the last end are zero. Made of libtorch's
// operators, so that it is differentiable; each product is the one that Python computes.
at::Tensor groupedProduct(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& ends) {
  if (input.dim() != 2 || weight.dim() != 3 || ends.dim() != 1 || ends.size(0) != weight.size(0)) {
    throw Error("ERR_MODEL_RUN", "Expected rows, a weight of each expert and where the rows of each end");
  }
  const auto last = ends.to(at::kCPU, at::kLong).contiguous();
  const auto rows = input.size(0);
  std::vector<at::Tensor> parts;
  int64_t start = 0;
  for (int64_t expert = 0; expert < weight.size(0); ++expert) {
    const auto end = last.const_data_ptr<int64_t>()[expert];
    if (end == start) continue;
    if (end < start || end > rows) {
      throw Error("ERR_MODEL_RUN", "Expected the rows of an expert to end between " + std::to_string(start) + " and " +
                                       std::to_string(rows) + " but they end at " + std::to_string(end));
    }
    parts.push_back(at::mm(input.slice(0, start, end), weight.select(0, expert)));
    start = end;
  }
  if (start < rows || parts.empty()) parts.push_back(at::zeros({rows - start, weight.size(2)}, input.options()));
  return parts.size() == 1 ? parts.front() : at::cat(parts);
}

}  // namespace

void registerGroupedProduct() {
  const std::string name(kGroupedProduct);
  auto& library = operatorsOf("transformers");
  library.def((name + "(Tensor input, Tensor weight, Tensor offs) -> Tensor").c_str());
  library.impl(name.c_str(), groupedProduct);
}

}  // namespace lta::exported
