#include "weights/weights.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "torch/nested.h"
#include "weights/cpu/tiles.h"
#include "weights/device.h"
#include "weights/layout.h"

namespace lta {

std::vector<int64_t> AttentionShape::sizes() const {
  auto all = batches.empty() ? std::vector<int64_t>{batch} : batches;
  all.insert(all.end(), {heads, queries, keys});
  return all;
}

void AttentionShape::split(int64_t batchSize, int64_t headCount) {
  batch = batchSize;
  heads = headCount;
  headsKnown = true;
}

AttentionShape shapeOf(at::IntArrayRef sizes) {
  AttentionShape shape;
  const auto dims = static_cast<int64_t>(sizes.size());
  shape.keys = sizes[dims - 1];
  shape.queries = dims > 1 ? sizes[dims - 2] : 1;
  if (dims == 3) {
    shape.batch = sizes[0];
    shape.headsKnown = false;
  } else if (dims > 3) {
    shape.heads = sizes[dims - 3];
    for (int64_t dim = 0; dim < dims - 3; ++dim) shape.batch *= sizes[dim];
    if (dims > 4) shape.batches.assign(sizes.begin(), sizes.begin() + (dims - 3));
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
  const Extent extent{shape.batch, count(wanted.rows.heads, shape.heads), count(wanted.rows.queries, shape.queries),
                      shape.keys};
  if (extent.batch * extent.heads * extent.queries * extent.keys == 0) {
    const auto type = call.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const auto options = at::TensorOptions().device(call.query.device());
    auto result = makeWeights(extent, wanted, type, [&](at::IntArrayRef sizes, at::ScalarType dtype) {
      return at::empty(sizes, options.dtype(dtype));
    });
    fillWhereEmpty(result, extent, wanted);
    return result;
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

bool canAttend(const SdpaArguments& call, const at::Tensor& value) {
  const auto &query = call.query, &key = call.key;
  const auto plain = [](const at::Tensor& tensor) {
    return tensor.is_cpu() && !tensor.is_nested() && tensor.layout() == at::kStrided && tensor.dim() == 4 &&
           tensor.scalar_type() == at::kFloat && !tensor.is_neg() && tensor.numel() > 0;
  };
  if (!plain(query) || !plain(key) || !plain(value)) return false;
  // Where there are few rows, or long ones, computing weights doesn't pack what it multiplies.
  if (query.size(2) <= kFewRows || query.size(3) > kMostDepth) return false;
  const bool hasMask = call.mask && call.mask->defined();
  if (hasMask) {
    const auto& mask = *call.mask;
    if (call.causal || !mask.is_cpu() || (mask.scalar_type() != at::kBool && mask.scalar_type() != at::kFloat)) {
      return false;
    }
  }
  const bool differentiable =
      query.requires_grad() || key.requires_grad() || value.requires_grad() || (hasMask && call.mask->requires_grad());
  if (c10::GradMode::is_enabled() && differentiable) return false;
  if (at::autocast::is_autocast_enabled(at::kCPU)) return false;
  constexpr int64_t kFlash = 1;  // sdp::SDPBackend::flash_attention: all else is written out
  return at::_fused_sdp_choice(query, key, value, call.mask, /*dropout_p=*/0.0, call.causal, call.scale,
                               call.groupedQuery) == kFlash;
}

Weights attend(const SdpaArguments& call, const at::Tensor& value, const Wanted& wanted, at::Tensor& output) {
  return attendInTiles(call, value, wanted, output);
}

Weights reduceWeights(const at::Tensor& weights, const Wanted& wanted) {
  return weights.is_cpu() ? reduceInTiles(weights.detach(), wanted) : reduceOnDevice(weights, wanted);
}

Weights reduceScores(const at::Tensor& scores, const Wanted& wanted, const at::Tensor& keys) {
  Weights result;
  const auto sumType = sumsType(scores.scalar_type(), wanted);
  const auto mean = [&](const at::Tensor& tensor, at::ScalarType type) {
    return wanted.averageHeads ? tensor.to(at::promote_types(tensor.scalar_type(), at::kFloat)).mean(1).to(type)
                               : tensor.to(type);
  };
  if (wanted.scores) {
    auto rows = selectRows(scores.detach(), wanted.rows);
    // The largest of each head are picked before anything is copied; those of a mean, out of the mean.
    if (keys.defined() && !wanted.averageHeads) rows = rows.gather(-1, keys);
    result.scores = mean(rows, wanted.dtype.value_or(scores.scalar_type()));
    if (keys.defined() && wanted.averageHeads) result.scores = result.scores.gather(-1, keys);
    if (result.scores.is_alias_of(scores)) result.scores = result.scores.clone(at::MemoryFormat::Contiguous);
  }
  if (wanted.logSumExp) {
    const auto queries = chosen(wanted.rows.queries, scores.size(2));
    std::vector<at::Tensor> parts;
    forEachStep(queries, scores.size(0) * scores.size(1) * scores.size(3), [&](const std::vector<int64_t>& some) {
      const auto rows = selectRows(scores.detach(), {wanted.rows.heads, some});
      parts.push_back(mean(at::logsumexp(rows.to(sumType), -1), sumType));
    });
    result.logSumExp = at::cat(parts, -1);
  }
  return result;
}

}  // namespace lta
