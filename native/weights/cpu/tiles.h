#pragma once

#include "weights/weights.h"

namespace lta {

// Weights on the CPU, tile by tile: nothing larger than the result and a tile per thread is held. No size is zero, and
// tensors are detached.
Weights computeInTiles(const SdpaArguments& call, const Wanted& wanted);
// The same of weights that exist already, [B, H, Q, K].
Weights reduceInTiles(const at::Tensor& weights, const Wanted& wanted);

}  // namespace lta
