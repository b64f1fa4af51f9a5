// Kernels of linear layers on rows of a tile: products with packed weights, and what follows them while a tile is in
// cache. Compiled for several instruction sets like those of kernels.h.
#pragma once

#include <cstdint>

namespace lta {

// What is done to each element of a product, in this order: bias, activation, residual.
enum class Activation : int8_t { None, Gelu, GeluTanh, Silu, Relu };
struct LayerEnd {
  const float* bias = nullptr;  // of the panel's columns; null for none
  Activation activation = Activation::None;
  const float* residual = nullptr;  // [rows, columns]; null for none
  int64_t residualStride = 0;       // elements between its rows
};

// One instruction set's kernels.
struct LayerKernels {
  int64_t panel;  // columns of a panel
  int64_t rows;   // per step: a multiple of it leaves no slower remainder
  // weight [columns, depth], times a factor, as panels[column / panel][depth][column % panel], padded with zeros.
  // `stride`: elements between columns.
  void (*pack)(const float* weight, int64_t stride, int64_t columns, int64_t depth, float factor, float* panels);
  // output [rows, columns], `stride` elements between rows, = input [rows, depth] · a panel, with `end` applied.
  // `columns` is at most `panel`; `tile` is room for [rows, panel]. Each element is summed in the same order, whatever
  // the rows. GELU is off by less than 3e-7 where it is below 1, by 3e-7 of itself where it is above, and by less than
  // 2e-5 of itself wherever that is a normal number.
  void (*apply)(const float* input, int64_t inputStride, int64_t rows, const float* panel, int64_t depth,
                int64_t columns, const LayerEnd& end, float* tile, float* output, int64_t stride);
  // Layer norm of a row in place; null for no weight or bias.
  void (*normalize)(float* row, int64_t count, const float* weight, const float* bias, float epsilon);
};

// Those of this processor, and whether they are faster than libtorch's general products: where vectors are long.
const LayerKernels& layerKernels();
bool layersPay();

}  // namespace lta
