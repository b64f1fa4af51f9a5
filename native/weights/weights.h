// Computes attention weights, or reduces existing ones. Knows nothing of models and captures.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace lta {

// The arguments of scaled_dot_product_attention that its weights depend on.
struct SdpaArguments {
  at::Tensor query;                // [..., Q, E]
  at::Tensor key;                  // [..., K, E]
  std::optional<at::Tensor> mask;  // broadcasts to [..., Q, K]: boolean (true: visible) or additive
  bool causal = false;             // query i sees keys 0 … i
  std::optional<double> scale;     // default 1/sqrt(E)
  bool groupedQuery = false;       // each key head serves a group of query heads
};

// A selection of [B, H, Q, K]; absent: all.
struct Rows {
  std::optional<std::vector<int64_t>> heads;
  std::optional<std::vector<int64_t>> queries;
};

// With four or more dimensions, the first is the batch and all between it and the queries count as heads. A
// three-dimensional call doesn't tell batch from heads: `headsKnown` is false and `batch` is their product.
struct AttentionShape {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  bool headsKnown = true;
};

AttentionShape shapeOf(const SdpaArguments& call);
// The same for existing weights, [..., Q, K].
AttentionShape shapeOf(at::IntArrayRef weights);

// Which weights to return.
struct Wanted {
  Rows rows;
  bool averageHeads = false;
  std::optional<int64_t> topK;          // only the largest weights of each row
  std::optional<at::ScalarType> dtype;  // absent: the type of the computation
};

struct Weights {
  at::Tensor weights;  // [B, H, Q, K], without H if averaged; with topK, K is min(topK, keys)
  at::Tensor keys;     // with topK: int64 key positions, same shape; largest weight first, ties by position
};

// softmax(query · keyᵀ · scale + mask), computed beside the fused kernel, which doesn't return its weights. Half types
// are computed in float32, float64 in float64. A row whose keys are all masked is zero, as in fused kernels. On the
// CPU, memory is bounded by the result and a tile per thread.
Weights computeWeights(const SdpaArguments& call, const Wanted& wanted);

// Selects and reduces existing weights, [B, H, Q, K].
Weights reduceWeights(const at::Tensor& weights, const Wanted& wanted);

// Selected rows of existing weights, [B, H, Q, K]; the same tensor for all of them.
at::Tensor selectRows(const at::Tensor& weights, const Rows& rows);

}  // namespace lta
