// Attention rollout and relevance, from matrices of weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lta {

// How the heads of a layer become one matrix in a rollout.
enum class HeadFusion { Mean, Max, Min };

// Attention rollout (Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3): the layers'
// matrices multiplied from the first to the last, each mixed with the identity for the residual connection and
// normalised:
//   A'ₗ = ½ Aₗ + ½ I,   R = A'_L · … · A'₁
// `weights`: self-attention of every layer in order, [B, H, T, T] or [B, T, T]. Gives [B, T, T], on their device.
at::Tensor attentionRollout(const std::vector<at::Tensor>& weights, HeadFusion fusion);

// Gradient-weighted relevance (Chefer, Gur & Wolf 2021, "Generic Attention-model Explainability", equations 5 and 6):
//   Āₗ = mean over heads of (∇Aₗ ⊙ Aₗ)⁺,   R ← R + Āₗ · R,   R₀ = I
// `weights` and `gradients`: of every layer in order, [B, H, T, T]. Gives [B, T, T], on their device.
at::Tensor attentionRelevance(const std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& gradients);

}  // namespace lta
