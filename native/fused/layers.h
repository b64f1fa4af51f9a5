// Linear layers with what follows them, computed block by block while it is in cache. Knows memory, not tensors.
#pragma once

#include <cstdint>

#include "weights/cpu/layers.h"

namespace lta::fused {

// activation(input · weightᵀ + bias)
struct Layer {
  const float* panels = nullptr;  // the packed weight
  const float* bias = nullptr;    // null for none
  int64_t depth = 0;
  int64_t columns = 0;
  Activation activation = Activation::None;
};

// Layer norm over the columns; null for no weight or bias.
struct Norm {
  const float* weight = nullptr;
  const float* bias = nullptr;
  float epsilon = 0;
};

// Elements of a packed weight.
int64_t packedSize(int64_t columns, int64_t depth);
void pack(const float* weight, int64_t columns, int64_t depth, float* panels);

// What layers are applied to, and what follows the last of them. Rows are contiguous.
struct Rows {
  const float* input = nullptr;
  int64_t count = 0;
  const float* residual = nullptr;  // added to what the last layer gives; null for none
  const Norm* norm = nullptr;       // of the sum; null for none
  float* output = nullptr;
};

// On all threads. Bits depend neither on their number nor on the number of rows.
void apply(const Layer& layer, const Rows& rows);
// One after the other, without memory for all rows between them.
void apply(const Layer& first, const Layer& second, const Rows& rows);

}  // namespace lta::fused
