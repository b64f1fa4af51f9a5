// Products of tiles of weights with an attention's values.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "weights/cpu/panel_memory.h"

namespace lta {

// The output of an attention, made tile by tile while the weights are in the cache.
class Attending {
 public:
  // `query`: [B, H, Q, E]; `value`: [B, H, K, E], of which each head may serve a group. In float32.
  Attending(const at::Tensor& query, const at::Tensor& value, bool causal);

  // Rows `first` … `first + count` of a head: elements [count, K], `stride` apart and zero where keys are masked, each
  // row times its factor, times the values. May change the elements.
  void tile(int64_t entry, int64_t head, int64_t first, int64_t count, float* elements, int64_t stride,
            const float* factors);

  // [B, H, Q, E], laid out as the query is, which is what libtorch's fused kernel does.
  const at::Tensor& output() const { return output_; }

 private:
  void multiplyRows(const float* panels, const float* elements, int64_t stride, int64_t rows, int64_t visible,
                    float* sums) const;

  int64_t keys_, embed_, columns_;  // columns: of whole panels
  int64_t valueHeads_, heads_;
  bool causal_;
  PanelMemory memory_;
  float* panels_;
  at::Tensor output_;
};

}  // namespace lta
