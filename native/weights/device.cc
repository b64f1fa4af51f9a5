#include "weights/device.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "weights/layout.h"

namespace lta {
namespace {

at::Tensor computeDense(const SdpaArguments& call, const Rows& rows) {
  const auto type = call.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto lead = call.query.dim() - 2;
  const auto allQueries = call.query.size(-2);
  const auto keys = call.key.size(-2);
  const double scale = call.scale.value_or(1.0 / std::sqrt(static_cast<double>(call.query.size(-1))));

  auto query = asFourDimensions(call.query);
  auto key = asFourDimensions(call.key);
  const auto heads = query.size(1);
  query = selectRows(query, rows);
  const auto batch = std::max(query.size(0), key.size(0));
  const auto pickedHeads = query.size(1);
  const auto queries = query.size(2);

  // Grouped keys are never repeated: all query heads of a group become rows of one product with their key head.
  int64_t group = 1;
  if (key.size(1) != heads && key.size(1) != 0 && heads % key.size(1) == 0) group = heads / key.size(1);
  if (group > 1 && rows.heads) {
    std::vector<int64_t> serving;
    for (const auto head : *rows.heads) serving.push_back(head / group);
    key = pick(key, 1, serving);
    group = 1;
  } else if (group == 1) {
    if (key.size(1) == heads) key = pick(key, 1, rows.heads);
  }
  query = query.to(type);
  key = key.to(type);
  const auto keyHeads = group > 1 ? key.size(1) : pickedHeads;
  const auto embed = query.size(3);
  const auto products = at::bmm(
      query.expand({batch, pickedHeads, queries, embed}).reshape({batch * keyHeads, group * queries, embed}).mul(scale),
      key.expand({batch, keyHeads, keys, embed}).reshape({batch * keyHeads, keys, embed}).transpose(1, 2));
  auto scores = products.view({batch, pickedHeads, queries, keys});

  at::Tensor empty;  // fully masked rows, if there is a mask
  if (call.mask && call.mask->defined()) {
    const auto leading = call.query.sizes().slice(0, lead);
    auto mask = broadcastMask(*call.mask, leading, allQueries, keys);
    const auto maskRows = Rows{mask.size(1) == heads ? rows.heads : std::nullopt, rows.queries};
    mask = withoutExpansion(selectRows(mask, maskRows));
    if (mask.scalar_type() == at::kBool) {
      scores.masked_fill_(mask.logical_not(), -std::numeric_limits<double>::infinity());
    } else {
      scores.add_(mask);
    }
    empty = maskedRows(mask);
  }
  if (call.causal) {
    auto rowIndex = rows.queries ? indexTensor(*rows.queries, scores.device())
                                 : at::arange(allQueries, at::TensorOptions().dtype(at::kLong).device(scores.device()));
    const auto column = at::arange(keys, rowIndex.options());
    scores.masked_fill_(column.unsqueeze(0).gt(rowIndex.unsqueeze(1)), -std::numeric_limits<double>::infinity());
  }
  at::_softmax_out(scores, scores, -1, /*half_to_float=*/false);
  if (empty.defined() && empty.any().item<bool>()) scores.masked_fill_(empty, 0.0);
  return scores;
}

Weights reduce(at::Tensor weights, const Wanted& wanted) {
  if (wanted.averageHeads) weights = weights.mean(1, false, at::promote_types(weights.scalar_type(), at::kFloat));
  Weights result{std::move(weights), {}};
  if (wanted.topK) {
    const auto count = std::min(*wanted.topK, result.weights.size(-1));
    auto [values, positions] = result.weights.topk(count);
    std::tie(result.weights, result.keys) = std::tuple(std::move(values), std::move(positions));
  }
  if (wanted.dtype) result.weights = result.weights.to(*wanted.dtype);
  return result;
}

// Rows per step of a reduction, by size.
constexpr int64_t kRowsBytes = 64 * 1024 * 1024;

}  // namespace

Weights computeOnDevice(const SdpaArguments& call, const Wanted& wanted) {
  if (!wanted.averageHeads && !wanted.topK) return reduce(computeDense(call, wanted.rows), wanted);
  const auto shape = shapeOf(call);
  const auto queries = chosen(wanted.rows.queries, shape.queries);
  const auto rowBytes = shape.batch * shape.heads * shape.keys * static_cast<int64_t>(sizeof(float));
  const auto step = static_cast<size_t>(std::max<int64_t>(1, kRowsBytes / std::max<int64_t>(1, rowBytes)));
  std::vector<at::Tensor> weights, keys;
  for (size_t first = 0; first < queries.size(); first += step) {
    const auto last = std::min(queries.size(), first + step);
    const Rows rows{wanted.rows.heads, std::vector<int64_t>(queries.begin() + first, queries.begin() + last)};
    auto part = reduce(computeDense(call, rows), wanted);
    weights.push_back(std::move(part.weights));
    if (part.keys.defined()) keys.push_back(std::move(part.keys));
  }
  return {at::cat(weights, -2), keys.empty() ? at::Tensor() : at::cat(keys, -2)};
}

Weights reduceOnDevice(const at::Tensor& weights, const Wanted& wanted) {
  return reduce(selectRows(weights, wanted.rows), wanted);
}

}  // namespace lta
