#include "capture/relevance.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace lta {
namespace {

at::Tensor identity(const at::Tensor& like) {
  return at::eye(like.size(-1), like.options()).expand({like.size(0), like.size(-1), like.size(-1)});
}

at::Tensor fuse(const at::Tensor& weights, HeadFusion fusion) {
  if (weights.dim() == 3) return weights;
  if (fusion == HeadFusion::Max) return weights.amax(1);
  if (fusion == HeadFusion::Min) return weights.amin(1);
  return weights.mean(1);
}

}  // namespace

at::Tensor attentionRollout(const std::vector<at::Tensor>& weights, HeadFusion fusion) {
  const c10::NoGradGuard noGrad;
  at::Tensor rollout;
  for (const auto& layer : weights) {
    const auto fused = fuse(layer, fusion);
    auto mixed = fused.mul(0.5).add(identity(fused), 0.5);
    mixed.div_(mixed.sum(-1, /*keepdim=*/true));
    rollout = rollout.defined() ? at::bmm(mixed, rollout) : mixed;
  }
  return rollout;
}

at::Tensor attentionRelevance(const std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& gradients) {
  const c10::NoGradGuard noGrad;
  at::Tensor relevance;
  for (size_t layer = 0; layer < weights.size(); ++layer) {
    const auto weighted = weights[layer].mul(gradients[layer]).clamp_min_(0).mean(1);
    if (!relevance.defined()) relevance = identity(weighted).clone();
    relevance = relevance.add(at::bmm(weighted, relevance));
  }
  return relevance;
}

}  // namespace lta
