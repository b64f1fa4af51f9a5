#include "capture/materialise.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <sstream>
#include <utility>

#include "runtime/error.h"

namespace lta {
namespace {

std::vector<int64_t> upTo(int64_t count) {
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void checkIndices(const char* option, const std::vector<int64_t>& indices, int64_t count, const Site& site) {
  for (const auto index : indices) {
    if (index >= 0 && index < count) continue;
    std::ostringstream message;
    if (count == 0) {
      message << "Expected no " << option << ", since " << describeSite(site) << " has none, but received " << index;
    } else {
      message << "Expected integers from 0 to " << count - 1 << " for " << option << ", since " << describeSite(site)
              << " has " << count << ", but received " << index;
    }
    throw Error("ERR_INVALID_ARGUMENT", message.str());
  }
}

Rows rowsOf(const Site& site, const CaptureOptions& options) {
  Rows rows;
  if (options.heads) {
    checkIndices("heads", *options.heads, site.shape.heads, site);
    rows.heads = options.heads;
  }
  if (options.queries) {
    checkIndices("queries", *options.queries, site.shape.queries, site);
    rows.queries = options.queries;
  }
  if (options.queryRange) {
    const auto [start, end] = *options.queryRange;
    if (end > site.shape.queries) {
      std::ostringstream message;
      message << "Expected queries.end to be at most " << site.shape.queries << ", since " << describeSite(site)
              << " has " << site.shape.queries << " queries, but received " << end;
      throw Error("ERR_INVALID_ARGUMENT", message.str());
    }
    std::vector<int64_t> queries(static_cast<size_t>(end - start));
    std::iota(queries.begin(), queries.end(), start);
    rows.queries = std::move(queries);
  }
  return rows;
}

// The scale of the codes that weights are to be kept in, if they are. Throws ERR_INVALID_ARGUMENT for what codes can't
// stand for.
std::optional<CodeScale> codesOf(const Site& site, const CaptureOptions& options) {
  if (options.type != KeptType::LinearCodes && options.type != KeptType::LogCodes) return std::nullopt;
  if (options.weights && (site.kind == Kind::Signed || site.kind == Kind::Relu)) {
    throw Error("ERR_INVALID_ARGUMENT", "Expected weights from 0 to 1 for dtype 'uint8', but those of " +
                                            describeSite(site) + " are of kind '" + nameOf(site.kind) +
                                            "'; dtype 'float16' takes any");
  }
  return options.type == KeptType::LinearCodes ? CodeScale::Linear : CodeScale::Log;
}

[[noreturn]] void refuseUncodable(double weight, CodeScale scale, const Site& site) {
  std::ostringstream message;
  message << "Expected weights from 0 to 1 for dtype 'uint8', but among those of " << describeSite(site) << " is ";
  if (weight == weight) {
    message << weight;
  } else {
    message << "NaN";
  }
  message << (scale == CodeScale::Linear && weight != weight ? "; scale 'log' and dtype 'float16' take it"
                                                             : "; dtype 'float16' takes any");
  throw Error("ERR_INVALID_ARGUMENT", message.str());
}

// What is wanted of weights that exist.
Weights fromExisting(const PendingAttention& pending, const Wanted& wanted) {
  const auto& shape = pending.site.shape;
  auto ofWeights = wanted;
  ofWeights.scores = ofWeights.logSumExp = false;
  // The weights themselves stay where they are, if they can.
  const bool asTheyAre = wanted.weights && !wanted.reduced() && !wanted.codes;
  if (asTheyAre) ofWeights.weights = false;
  Weights result;
  if (ofWeights.weights || ofWeights.topK || ofWeights.received || ofWeights.entropy) {
    result = reduceWeights(pickRows(pending.weights, shape, {}), ofWeights);
  }
  if (asTheyAre) result.weights = averageAndCast(pickRows(pending.weights, shape, wanted.rows), false, *wanted.dtype);
  if (pending.scores && (wanted.scores || wanted.logSumExp)) {
    auto ofScores = reduceScores(pickRows(pending.scores(), shape, {}), wanted, result.keys);
    result.scores = std::move(ofScores.scores);
    result.logSumExp = std::move(ofScores.logSumExp);
  }
  return result;
}

// [B · heads, L, E] of a call whose heads are known by now.
void splitHeads(PendingAttention& pending) {
  auto& call = *pending.call;
  const auto batch = pending.site.shape.batch, heads = pending.site.shape.heads;
  const auto lead = call.query.size(0);
  const auto split = [&](const at::Tensor& tensor) {
    if (tensor.dim() != 3) return tensor;
    return tensor.expand({lead, tensor.size(1), tensor.size(2)}).unflatten(0, {batch, heads});
  };
  if (call.mask && call.mask->defined()) call.mask = split(*call.mask);
  call.key = split(call.key);
  call.query = split(call.query);
  if (pending.value.defined()) pending.value = split(pending.value);
}

}  // namespace

Kept keptOf(const Site& site, const CaptureOptions& options) {
  Kept kept;
  kept.rows = rowsOf(site, options);
  kept.heads = kept.rows.heads.value_or(upTo(site.shape.heads));
  kept.queries = kept.rows.queries.value_or(upTo(site.shape.queries));
  kept.codes = codesOf(site, options);
  if (options.type == KeptType::Same) {
    kept.dtype = site.dtype;
  } else {
    kept.dtype = options.type == KeptType::Half ? at::kHalf : at::kFloat;
  }
  return kept;
}

at::ScalarType gradientTypeOf(const Site& site, const CaptureOptions& options) {
  return options.type == KeptType::Same ? site.dtype : at::kFloat;
}

int64_t bytesOf(const Site& site, const Kept& kept, const CaptureOptions& options) {
  const auto columns = std::min(options.topK.value_or(site.shape.keys), site.shape.keys);
  const auto queries = static_cast<int64_t>(kept.queries.size());
  size_t elementBytes = options.topK ? sizeof(int64_t) : 0;
  if (options.weights) elementBytes += kept.codes ? 1 : c10::elementSize(kept.dtype);
  if (options.scores) elementBytes += c10::elementSize(kept.dtype);
  if (options.gradients) elementBytes += c10::elementSize(gradientTypeOf(site, options));
  const auto sums = (int{options.logSumExp} + int{options.entropy}) * queries + int{options.received} * site.shape.keys;
  const auto sumBytes = static_cast<int64_t>(std::max(sizeof(float), c10::elementSize(kept.dtype)));
  return site.shape.batch * (options.averageHeads ? 1 : static_cast<int64_t>(kept.heads.size())) *
         (queries * columns * static_cast<int64_t>(elementBytes) + sums * sumBytes);
}

at::Tensor pickRows(at::Tensor weights, const AttentionShape& shape, const Rows& rows) {
  if (weights.dim() == 3) weights = weights.unflatten(0, {shape.batch, shape.heads});
  if (weights.dim() == 2) weights = weights.unsqueeze(0).unsqueeze(0);
  if (weights.dim() > 4) weights = weights.flatten(0, -4);
  return selectRows(weights, rows);
}

at::Tensor averageAndCast(at::Tensor weights, bool averageHeads, at::ScalarType dtype) {
  if (averageHeads) weights = weights.to(at::promote_types(weights.scalar_type(), at::kFloat)).mean(1);
  return weights.to(dtype);
}

Materialised materialise(PendingAttention& pending, const Kept& kept, const CaptureOptions& options, bool ownMemory) {
  Wanted wanted{kept.rows,       options.averageHeads, options.topK,      kept.dtype,       kept.codes,
                options.weights, options.scores,       options.logSumExp, options.received, options.entropy};
  // Of what is no distribution, neither says anything.
  if (pending.site.kind != Kind::Softmax) wanted.received = wanted.entropy = false;
  Materialised made;
  auto& weights = made.result.weights;
  if (pending.call) {
    if (pending.call->query.dim() == 3) splitHeads(pending);
    made.result = pending.attends ? attend(*pending.call, pending.value, wanted, pending.output)
                                  : computeWeights(*pending.call, wanted);
  } else {
    made.result = fromExisting(pending, wanted);
  }
  if (const auto weight = made.result.uncodable) refuseUncodable(*weight, *kept.codes, pending.site);
  if (!weights.defined()) return made;
  made.borrowed = !pending.call && weights.storage().is_alias_of(pending.weights.storage());
  // A part of a larger tensor would keep all of it alive.
  if (made.borrowed && (ownMemory || weights.nbytes() < pending.weights.storage().nbytes())) {
    weights = weights.clone(at::MemoryFormat::Contiguous);
    made.borrowed = false;
  } else if (weights.storage().nbytes() > weights.nbytes() && !made.borrowed) {
    weights = weights.contiguous();
  }
  return made;
}

}  // namespace lta
