// The blocks of encoder and decoder layers. Stateless: each gets the modules that it calls.
#pragma once

#include <c10/util/FunctionRef.h>

#include <string>

#include "nn/leaves.h"
#include "nn/multihead_attention.h"
#include "nn/transformer_layer_options.h"

namespace lta::nn {

// x + block(x), normalized after the sum, or before the block with `normFirst`.
using Block = c10::function_ref<at::Tensor(const at::Tensor&)>;
at::Tensor residual(const at::Tensor& x, bool normFirst, const std::string& name, const torch::nn::LayerNorm& norm,
                    Block block);

// One attention, followed by dropout.
struct AttentionBlock {
  const char* name;
  MultiheadAttention& attention;
  const char* dropoutName;
  const torch::nn::Dropout& dropout;
};
at::Tensor attend(const AttentionBlock& block, const at::Tensor& query, const at::Tensor& memory,
                  const AttentionArguments& arguments);

// linear1, activation, dropout, linear2, dropout.
struct FeedForward {
  const torch::nn::Linear& linear1;
  const torch::nn::Dropout& dropout;
  const torch::nn::Linear& linear2;
  const char* lastName;
  const torch::nn::Dropout& last;
};
at::Tensor feedForward(const FeedForward& modules, Activation activation, const at::Tensor& x);

}  // namespace lta::nn
