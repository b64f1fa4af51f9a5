// From an attention that was seen to the tensors that are kept of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "capture/options.h"
#include "capture/pending_attention.h"
#include "weights/weights.h"

namespace lta {

// What of one attention is kept.
struct Kept {
  Rows rows;
  std::vector<int64_t> heads;
  std::vector<int64_t> queries;
  at::ScalarType dtype;
  std::optional<CodeScale> codes;  // the weights alone
};

// Throws ERR_INVALID_ARGUMENT where the options name heads or queries that the attention doesn't have, or codes for
// weights that may be outside of [0, 1].
Kept keptOf(const Site& site, const CaptureOptions& options);
// The type of a gradient of its weights. Narrow ones would lose what is small.
at::ScalarType gradientTypeOf(const Site& site, const CaptureOptions& options);
// The bytes that it takes.
int64_t bytesOf(const Site& site, const Kept& kept, const CaptureOptions& options);

// The rows asked for of weights that exist, or of their gradient, [..., Q, K], as [B, H, Q, K].
at::Tensor pickRows(at::Tensor weights, const AttentionShape& shape, const Rows& rows);
// What is kept once the rows are picked: averaged, cast.
at::Tensor averageAndCast(at::Tensor weights, bool averageHeads, at::ScalarType dtype);

struct Materialised {
  Weights result;
  // Whether the weights lie in the model's own memory still. Never with `ownMemory`.
  bool borrowed = false;
};

// Computes what is kept of an attention whose shape is known, and whose tensors are in place. `ownMemory`: something
// else than an operator may write into the model's memory, or the weights are copied to the CPU while the model goes
// on.
Materialised materialise(PendingAttention& pending, const Kept& kept, const CaptureOptions& options, bool ownMemory);

}  // namespace lta
