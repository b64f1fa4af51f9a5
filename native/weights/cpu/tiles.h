// Attention weights on the CPU, tile by tile.
#pragma once

#include "weights/weights.h"

namespace lta {

// Memory is bounded by the result and a tile per thread. No size may be zero, and tensors must be detached.
Weights computeInTiles(const SdpaArguments& call, const Wanted& wanted);
// The same for existing weights, [B, H, Q, K].
Weights reduceInTiles(const at::Tensor& weights, const Wanted& wanted);

}  // namespace lta
