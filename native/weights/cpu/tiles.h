// Attention weights on the CPU, tile by tile.
#pragma once

#include "weights/weights.h"

namespace lta {

// Packing the key costs as much as so many rows of the product. The packed product is faster than the general one up to
// such a depth.
constexpr int64_t kFewRows = 5;
constexpr int64_t kMostDepth = 256;

// Memory is bounded by the result and a tile per thread. No size may be zero, and tensors must be detached.
Weights computeInTiles(const SdpaArguments& call, const Wanted& wanted);
// The same with the output of the attention, in one pass: see weights.h.
Weights attendInTiles(const SdpaArguments& call, const at::Tensor& value, const Wanted& wanted, at::Tensor& output);
// The same for existing weights, [B, H, Q, K].
Weights reduceInTiles(const at::Tensor& weights, const Wanted& wanted);

}  // namespace lta
