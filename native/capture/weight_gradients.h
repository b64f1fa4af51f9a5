// The points in a graph whose gradients are those of captured weights.
#pragma once

#include <ATen/core/Tensor.h>

#include "capture/attention_gradient.h"
#include "capture/materialise.h"
#include "capture/options.h"

namespace lta {

// How the gradient of a captured attention's weights is told once a scalar is known: for what is kept of the weights,
// `keys` are their key positions with topK. Asked for when the run is long over, whatever the model has done with its
// values since.

// From the points that the capture put into the model's computation, of an attention whose tensors are in place.
GradientPoints gradientPointsOf(const PendingAttention& pending, const Kept& kept, const at::Tensor& keys,
                                const CaptureOptions& options);

// From weights that the model returned beside a fused kernel's output, [B, H, Q, K].
GradientPoint gradientPointOfReturned(const at::Tensor& weights, const Attention& attention,
                                      const CaptureOptions& options);

}  // namespace lta
