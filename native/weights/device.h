#pragma once

#include "weights/weights.h"

namespace lta {

// Weights on any device, with its own operators. Where less than everything is wanted, the whole is never held.
Weights computeOnDevice(const SdpaArguments& call, const Wanted& wanted);
// The same of weights that exist already, [B, H, Q, K].
Weights reduceOnDevice(const at::Tensor& weights, const Wanted& wanted);

}  // namespace lta
