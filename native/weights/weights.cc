#include "weights/weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "torch/nested.h"
#include "weights/cpu/tiles.h"
#include "weights/device.h"
#include "weights/layout.h"

namespace lta {

AttentionShape shapeOf(at::IntArrayRef sizes) {
  AttentionShape shape;
  const auto dims = static_cast<int64_t>(sizes.size());
  shape.keys = sizes[dims - 1];
  shape.queries = dims > 1 ? sizes[dims - 2] : 1;
  if (dims == 3) {
    shape.batch = sizes[0];
    shape.headsKnown = false;
  } else if (dims > 3) {
    shape.batch = sizes[0];
    for (int64_t dim = 1; dim < dims - 2; ++dim) shape.heads *= sizes[dim];
  }
  return shape;
}

AttentionShape shapeOf(const SdpaArguments& call) {
  std::vector<int64_t> sizes;
  if (call.query.is_nested()) {
    // A nested tensor, [B, H, ragged, E]: weights have the padded shape.
    if (call.query.size(0) == 0) return {0, 1, 0, 0, true};
    const auto longest = [](const at::Tensor& tensor) {
      return sizesOfNested(tensor).select(1, 1).max().item<int64_t>();
    };
    return {call.query.size(0), call.query.size(1), longest(call.query), longest(call.key), true};
  }
  const auto lead = call.query.dim() - 2;
  if (call.groupedQuery || call.key.dim() != call.query.dim()) {
    sizes.assign(call.query.sizes().begin(), call.query.sizes().begin() + lead);
  } else {
    sizes = at::infer_size(call.query.sizes().slice(0, lead), call.key.sizes().slice(0, lead));
  }
  sizes.push_back(call.query.size(-2));
  sizes.push_back(call.key.size(-2));
  return shapeOf(sizes);
}

at::Tensor selectRows(const at::Tensor& weights, const Rows& rows) {
  return pick(pick(weights, 1, rows.heads), 2, rows.queries);
}

namespace {

// Pads a nested batch, masks padded keys and zeroes padded queries, which the kernel doesn't have.
SdpaArguments padded(const SdpaArguments& call) {
  const auto dense = [](const at::Tensor& tensor) { return at::nested_to_padded_tensor(tensor, 0.0); };
  const auto present = [](const at::Tensor& tensor, int64_t longest) {
    const auto lengths = sizesOfNested(tensor).select(1, 1).to(tensor.device());
    return at::arange(longest, lengths.options()).unsqueeze(0).lt(lengths.unsqueeze(1));  // [B, longest]
  };
  SdpaArguments result = call;
  result.query = dense(call.query);
  result.key = dense(call.key);
  const auto queries = present(call.query, result.query.size(2));
  const auto keys = present(call.key, result.key.size(2));
  result.mask = queries.unsqueeze(1).unsqueeze(3).logical_and(keys.unsqueeze(1).unsqueeze(2));
  return result;
}

// Calls with a size of zero: empty weights, or, if only the embedding is empty, those of zero scores. Absent if there
// is something to compute.
std::optional<Weights> computeEmpty(const SdpaArguments& call, const Wanted& wanted) {
  const auto shape = shapeOf(call);
  const auto count = [](const std::optional<std::vector<int64_t>>& indices, int64_t all) {
    return indices ? static_cast<int64_t>(indices->size()) : all;
  };
  const auto columns = std::min(wanted.topK.value_or(shape.keys), shape.keys);
  std::vector<int64_t> sizes{shape.batch, count(wanted.rows.heads, shape.heads),
                             count(wanted.rows.queries, shape.queries), columns};
  if (wanted.averageHeads) sizes.erase(sizes.begin() + 1);
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) {
    const auto type = call.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const auto options = at::TensorOptions().device(call.query.device());
    return Weights{at::empty(sizes, options.dtype(wanted.dtype.value_or(type))),
                   wanted.topK ? at::empty(sizes, options.dtype(at::kLong)) : at::Tensor()};
  }
  if (call.query.is_nested() || call.query.size(-1) != 0) return std::nullopt;
  const auto zeros = [](const at::Tensor& tensor) {
    auto sizes = tensor.sizes().vec();
    sizes.back() = 1;
    return at::zeros(sizes, tensor.options().requires_grad(false));
  };
  auto scores = call;
  scores.query = zeros(call.query);
  scores.key = zeros(call.key);
  scores.scale = 1.0;
  return computeWeights(scores, wanted);
}

}  // namespace

Weights computeWeights(const SdpaArguments& call, const Wanted& wanted) {
  if (auto empty = computeEmpty(call, wanted)) return std::move(*empty);
  if (call.query.is_nested()) return computeWeights(padded(call), wanted);
  if (!call.query.is_cpu()) return computeOnDevice(call, wanted);
  SdpaArguments plain = call;
  plain.query = call.query.detach();
  plain.key = call.key.detach();
  if (plain.mask && plain.mask->defined()) plain.mask = plain.mask->detach();
  return computeInTiles(plain, wanted);
}

Weights reduceWeights(const at::Tensor& weights, const Wanted& wanted) {
  return weights.is_cpu() ? reduceInTiles(weights.detach(), wanted) : reduceOnDevice(weights, wanted);
}

}  // namespace lta
