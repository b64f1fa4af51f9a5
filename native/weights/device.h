// Attention weights on any device, by its own operators.
#pragma once

#include "weights/weights.h"

namespace lta {

// For a reduction, the full weights never exist: some rows at a time.
Weights computeOnDevice(const SdpaArguments& call, const Wanted& wanted);
// The same for existing weights, [B, H, Q, K].
Weights reduceOnDevice(const at::Tensor& weights, const Wanted& wanted);

}  // namespace lta
