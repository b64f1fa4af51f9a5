#include "weights/device.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "weights/cuda/weights_by_kernel.h"
#include "weights/layout.h"

namespace lta {
namespace {

// Of some rows, [B, H, Q, K]: the scores, masks added, and the weights, which may lie in the same memory unless
// `keepScores`.
struct Dense {
  at::Tensor scores;
  at::Tensor weights;
};

Dense computeDense(const SdpaArguments& call, const Rows& rows, bool keepScores) {
  if (!keepScores) {
    if (auto weights = weightsByKernel(call, rows); weights.defined()) return {{}, std::move(weights)};
  }
  const auto type = call.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto allQueries = call.query.size(-2);
  const auto keys = call.key.size(-2);
  const double scale = call.scale.value_or(1.0 / std::sqrt(static_cast<double>(call.query.size(-1))));

  // All query heads of a group become rows of one product with their key head.
  auto [query, key, group] = selectOperands(call, rows);
  const auto batch = std::max(query.size(0), key.size(0));
  const auto pickedHeads = query.size(1);
  const auto queries = query.size(2);
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
    const auto mask = selectedMask(call, rows);
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
  const auto weights = keepScores ? at::empty_like(scores) : scores;
  at::_softmax_out(const_cast<at::Tensor&>(weights), scores, -1, /*half_to_float=*/false);
  if (empty.defined() && empty.any().item<bool>()) weights.masked_fill_(empty, 0.0);
  return {scores, weights};
}

// What is wanted of some rows.
Weights reduce(const Dense& dense, const Wanted& wanted) {
  const auto mean = [&](const at::Tensor& tensor) {
    return wanted.averageHeads ? tensor.mean(1, false, at::promote_types(tensor.scalar_type(), at::kFloat)) : tensor;
  };
  const auto cast = [&](at::Tensor tensor) { return wanted.dtype ? tensor.to(*wanted.dtype) : tensor; };
  const auto sumType = sumsType(dense.weights.scalar_type(), wanted);
  const auto weights = mean(dense.weights);
  Weights result;
  if (wanted.received) result.received = weights.sum(-2, false, sumType);
  if (wanted.entropy) result.entropy = at::special_entr(weights.to(sumType)).sum(-1);
  if (wanted.logSumExp) result.logSumExp = mean(at::logsumexp(dense.scores.to(sumType), -1));
  if (wanted.scores) result.scores = mean(dense.scores);
  if (wanted.topK) {
    std::tie(result.weights, result.keys) = weights.topk(std::min(*wanted.topK, weights.size(-1)));
    if (wanted.scores) result.scores = result.scores.gather(-1, result.keys);
  } else if (wanted.weights) {
    result.weights = weights;
  }
  if (wanted.scores) result.scores = cast(result.scores);
  if (!wanted.weights) {
    result.weights.reset();
  } else if (wanted.codes) {
    result.uncodable = uncodableOf(result.weights, *wanted.codes);
    result.weights = encodeWeights(result.weights, *wanted.codes);
  } else {
    result.weights = cast(result.weights);
  }
  return result;
}

// The same of any number of rows: where less than all of it is wanted, the whole never exists.
template <typename Compute>
Weights inSteps(const Wanted& wanted, const AttentionShape& shape, Compute compute) {
  if (!wanted.reduced()) return reduce(compute(wanted.rows), wanted);
  std::vector<Weights> parts;
  forEachStep(chosen(wanted.rows.queries, shape.queries), shape.batch * shape.heads * shape.keys,
              [&](const std::vector<int64_t>& some) {
                auto part = reduce(compute(Rows{wanted.rows.heads, some}), wanted);
                if (!parts.empty() && wanted.received) part.received.add_(parts.back().received);
                parts.push_back(std::move(part));
              });
  const auto together = [&](at::Tensor Weights::* member, int64_t dim) {
    std::vector<at::Tensor> tensors;
    for (const auto& part : parts) tensors.push_back(part.*member);
    return tensors.front().defined() ? at::cat(tensors, dim) : at::Tensor();
  };
  Weights whole = {together(&Weights::weights, -2),
                   together(&Weights::keys, -2),
                   together(&Weights::scores, -2),
                   together(&Weights::logSumExp, -1),
                   parts.back().received,
                   together(&Weights::entropy, -1),
                   std::nullopt};
  for (const auto& part : parts) {
    if (part.uncodable) whole.uncodable = part.uncodable;
  }
  return whole;
}

}  // namespace

Weights computeOnDevice(const SdpaArguments& call, const Wanted& wanted) {
  const bool keepScores = wanted.scores || wanted.logSumExp;
  return inSteps(wanted, shapeOf(call), [&](const Rows& rows) { return computeDense(call, rows, keepScores); });
}

Weights reduceOnDevice(const at::Tensor& weights, const Wanted& wanted) {
  return inSteps(wanted, shapeOf(weights.sizes()),
                 [&](const Rows& rows) { return Dense{{}, selectRows(weights, rows)}; });
}

}  // namespace lta
