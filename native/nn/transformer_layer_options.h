// Options of encoder and decoder layers.
#pragma once

#include <cstdint>

namespace lta::nn {

enum class Activation { Relu, Gelu };

// The same defaults as in Python.
struct TransformerLayerOptions {
  int64_t dModel;
  int64_t nhead;
  int64_t dimFeedforward = 2048;
  double dropout = 0.1;
  Activation activation = Activation::Relu;
  double layerNormEps = 1e-5;
  bool batchFirst = false;
  bool normFirst = false;
  bool bias = true;
};

}  // namespace lta::nn
