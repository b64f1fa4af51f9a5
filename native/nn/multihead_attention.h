// nn.MultiheadAttention as in Python.
#pragma once

#include <torch/nn/modules/activation.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/mask.h"
#include "nn/native_module.h"

namespace lta::nn {

struct MultiheadAttentionOptions {
  int64_t embedDim;
  int64_t numHeads;
  double dropout = 0;
  bool bias = true;
  bool addBiasKv = false;
  bool addZeroAttn = false;
  int64_t kdim;
  int64_t vdim;
  bool batchFirst = false;
};

struct AttentionArguments {
  Mask keyPaddingMask;  // [B, S], or [S] without a batch
  Mask attnMask;        // [T, S] or [B·H, T, S]
  bool isCausal = false;
  std::optional<bool> needWeights{};  // absent: the module's or the run's flag
  bool averageWeights = false;
};

struct AttentionResult {
  at::Tensor output;
  at::Tensor weights;  // [B, H, T, S], [B, T, S] if averaged, without B if unbatched; undefined if not requested
};

// libtorch's module plus what Python's has: batch_first, bias=False, causal masks, fused kernels. The output is
// bit-identical whether or not weights are requested: they are computed beside it.
class MultiheadAttention final : public torch::nn::MultiheadAttentionImpl, public NativeModule {
 public:
  explicit MultiheadAttention(const MultiheadAttentionOptions& options);

  AttentionResult attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const AttentionArguments& arguments);
  // The same, called as the submodule `name`.
  AttentionResult call(const std::string& name, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                       const AttentionArguments& arguments);

  // Inputs: query, key, value. Arguments: keyPaddingMask, attnMask, needWeights, averageAttnWeights, isCausal. Returns
  // a tuple (output, weights or None).
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  // Initialises the parameters in the order of Python's constructor.
  void initialise();
  void setNeedWeights(bool need) override { needWeights_ = need; }
  bool needsWeights() const override { return needWeights_; }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<c10::Device>& device = std::nullopt) const override;

  const MultiheadAttentionOptions& settings() const { return settings_; }
  // Whether self-attention can use the fused kernel if no gradients are recorded.
  bool fusable(const at::Tensor& query) const;
  // Whether autograd records operations on these parameters or `input`.
  bool tracksGradients(const at::Tensor& input) const;
  // Both masks merged as fused kernels take them (true: hidden), with the kernels' mask type.
  std::pair<std::optional<at::Tensor>, std::optional<int64_t>> mergeMasks(const Mask& attnMask, const Mask& padding,
                                                                          const at::Tensor& query) const;

 private:
  AttentionResult fused(const at::Tensor& query, const AttentionArguments& arguments, bool needWeights);
  AttentionResult composed(at::Tensor query, at::Tensor key, at::Tensor value, const AttentionArguments& arguments,
                           bool needWeights);
  std::vector<at::Tensor> project(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) const;

  const MultiheadAttentionOptions settings_;
  std::atomic<bool> needWeights_{false};  // written while runs on other threads read it
};

}  // namespace lta::nn
