// How the gradient of attention weights follows from the gradients of other tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "runtime/cancellation.h"
#include "weights/weights.h"

namespace lta {

// A tensor of a run whose gradient tells the gradient of an attention's weights, and how.
struct GradientPoint {
  at::Tensor tensor;
  std::function<at::Tensor(const at::Tensor& gradient)> toWeights;
};

// The points of one attention: gradients add up.
using GradientPoints = std::vector<GradientPoint>;

// computeWeights(call, {}).weights, differentiable by query, key and mask where autograd records them.
at::Tensor differentiableWeights(const SdpaArguments& call);

// An alias of `tensor` that requires grad. Its gradient stays its own, whatever is written into either.
at::Tensor requireGrad(const at::Tensor& tensor);

// d(scalar)/d(weights) behind a fused kernel, from the gradient G of the kernel's output: G · Vᵀ, [B, H, Q, K] of the
// rows asked for. (O = A V, so dL/dA = dL/dO · Vᵀ.)
at::Tensor weightsGradient(const SdpaArguments& call, const at::Tensor& value, const at::Tensor& gradient,
                           const Rows& rows);

// d(scalar)/d(weights) for each attention; zero where the scalar doesn't depend on it. Frees the graph. Stops at the
// next point where that is asked for.
std::vector<at::Tensor> gradientsOf(const at::Tensor& scalar, const std::vector<GradientPoints>& attentions,
                                    const CancellationPtr& cancellation);

}  // namespace lta
