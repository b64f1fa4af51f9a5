#include "nn/blocks.h"

#include <ATen/ATen.h>

namespace lta::nn {

at::Tensor residual(const at::Tensor& x, bool normFirst, const std::string& name, const torch::nn::LayerNorm& norm,
                    Block block) {
  return normFirst ? x + block(call(name, norm, x)) : call(name, norm, x + block(x));
}

at::Tensor attend(const AttentionBlock& block, const at::Tensor& query, const at::Tensor& memory,
                  const AttentionArguments& arguments) {
  return call(block.dropoutName, block.dropout,
              block.attention.call(block.name, query, memory, memory, arguments).output);
}

at::Tensor feedForward(const FeedForward& modules, Activation activation, const at::Tensor& x) {
  const auto hidden = call("linear1", modules.linear1, x);
  const auto active =
      call("dropout", modules.dropout, activation == Activation::Gelu ? at::gelu(hidden) : at::relu(hidden));
  return call(modules.lastName, modules.last, call("linear2", modules.linear2, active));
}

}  // namespace lta::nn
