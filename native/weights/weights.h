// Computes attention weights, or reduces existing ones. Knows nothing of models and captures.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "weights/codes.h"

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

// Shape of an attention: heads stand ahead of the queries, and what is ahead of them counts as batch (windows, groups).
// Three dimensions don't tell batch from heads: `headsKnown` is false, `batch` holds their product.
struct AttentionShape {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  bool headsKnown = true;
  std::vector<int64_t> batches = {};  // where the batch is several dimensions: those

  // All dimensions, [batch…, H, Q, K].
  std::vector<int64_t> sizes() const;
  void split(int64_t batchSize, int64_t headCount);
};

AttentionShape shapeOf(const SdpaArguments& call);
// The same for existing weights, [..., Q, K].
AttentionShape shapeOf(at::IntArrayRef weights);

// What is wanted of an attention.
struct Wanted {
  Rows rows;
  bool averageHeads = false;
  std::optional<int64_t> topK;          // only the largest weights of every row
  std::optional<at::ScalarType> dtype;  // absent: the type that they are computed in
  std::optional<CodeScale> codes;       // the weights as codes, whatever `dtype` says; they must be from 0 to 1
  bool weights = true;
  bool scores = false;
  bool logSumExp = false;
  bool received = false;
  bool entropy = false;

  // Whether nothing as large as the weights is wanted.
  bool reduced() const { return averageHeads || topK || !(weights || scores); }
};

// Undefined is what isn't wanted. Averaged, all are of the mean of the heads' weights (or scores, or their logSumExp),
// without H. With topK, K is at most that in weights, keys and scores. What sums up rows or columns is float32, or
// float64 where the weights are.
struct Weights {
  at::Tensor weights;    // [B, H, Q, K]
  at::Tensor keys;       // with topK: int64 key positions, as weights; largest weight first, equal ones by position
  at::Tensor scores;     // [B, H, Q, K]: what the softmax is of, masks added
  at::Tensor logSumExp;  // [B, H, Q], of the scores
  at::Tensor received;   // [B, H, K]: the sum over the rows asked for
  at::Tensor entropy;    // [B, H, Q], in nats
  std::optional<double> uncodable;  // where codes were wanted, and a weight has none: that weight, or another like it
};

// softmax(query · keyᵀ · scale + mask), computed beside the fused kernel, which doesn't return its weights. Half types
// are computed in float32, float64 in float64. A row whose keys are all masked is zero, as in fused kernels. On the
// CPU, memory is bounded by the result and a tile per thread.
Weights computeWeights(const SdpaArguments& call, const Wanted& wanted);

// Whether `attend` takes a call without dropout: one that libtorch's fused kernel for the CPU would compute, in
// float32, that no gradient depends on, and of more than a few rows.
bool canAttend(const SdpaArguments& call, const at::Tensor& value);

// What scaled_dot_product_attention gives, and what is wanted of its weights, all rows: in one pass over the scores,
// each tile of which is multiplied with the values while it is in the cache. The weights are the same bits as those of
// computeWeights; the output is as exact as the fused kernel's, and laid out alike.
Weights attend(const SdpaArguments& call, const at::Tensor& value, const Wanted& wanted, at::Tensor& output);

// What is wanted of weights that exist already, [B, H, Q, K]; no scores.
Weights reduceWeights(const at::Tensor& weights, const Wanted& wanted);

// Scores that exist already, [B, H, Q, K], as they are wanted beside weights whose `keys` are these (undefined without
// topK), and their logSumExp.
Weights reduceScores(const at::Tensor& scores, const Wanted& wanted, const at::Tensor& keys);

// The rows asked for of weights that exist already, [B, H, Q, K]; the same tensor where all are.
at::Tensor selectRows(const at::Tensor& weights, const Rows& rows);

}  // namespace lta
