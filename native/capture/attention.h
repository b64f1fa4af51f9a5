// Attentions as a capture gives them, and where they were computed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "capture/attention_gradient.h"
#include "capture/flow/value.h"
#include "weights/weights.h"

namespace lta {

// A place in a forward where attention was computed.
struct Site {
  int64_t index = 0;
  std::string name;  // dotted name of its module; empty for the model itself
  std::string operatorName;
  AttentionShape shape;
  Kind kind = Kind::Softmax;
  std::vector<std::string> path;  // the operators between that and the product with the values
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
};

// A site as errors name it: "attention 3 ('encoder.layers.0')".
std::string describeSite(const Site& site);

// What a capture gives of one attention.
struct Attention {
  Site site;
  at::Tensor weights;    // [B, H, Q, K], or [B, Q, K] averaged; undefined where they weren't asked for
  at::Tensor keys;       // with topK: the key positions of the weights
  at::Tensor scores;     // as the weights; undefined, like what follows, where it wasn't asked for or isn't known
  at::Tensor logSumExp;  // [B, H, Q], or [B, Q]
  at::Tensor received;   // [B, H, K], or [B, K]
  at::Tensor entropy;    // [B, H, Q], or [B, Q]
  std::vector<int64_t> heads;
  std::vector<int64_t> queries;
  std::optional<CodeScale> scale;  // of weights that are codes
  GradientPoints gradient;         // with the option `gradients`
};

}  // namespace lta
