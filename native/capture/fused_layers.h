// What a capture is told of the layers that `optimize` has made single operators of.
#pragma once

#include "capture/capture.h"

namespace lta {

// Registers the probe's kernels for the operators of fused/operators.h. `current` gives the calling thread's capture.
void registerFusedLayers(Capture* (*current)());

}  // namespace lta
