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
  std::optional<bool> needWeights{};  // absent: the module's own flag, or the run's
  bool averageWeights = false;
};

struct AttentionResult {
  at::Tensor output;
  at::Tensor weights;  // [B, H, T, S], [B, T, S] averaged, no B without a batch; undefined where not asked for
};

// libtorch's module with what Python's has beyond it: batch_first, no bias, causal masks, fused kernels. Asking for the
// weights runs the same kernels as not asking: they come beside the output.
class MultiheadAttention final : public torch::nn::MultiheadAttentionImpl, public NativeModule {
 public:
  explicit MultiheadAttention(const MultiheadAttentionOptions& options);

  AttentionResult attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const AttentionArguments& arguments);
  // The same as a submodule that is registered as `name`.
  AttentionResult call(const std::string& name, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                       const AttentionArguments& arguments);

  // [query, key, value]; keyPaddingMask, attnMask, needWeights, averageAttnWeights, isCausal. Gives a tuple of the
  // output and the weights or None.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  // Draws initial values, in the order in which Python's constructor does.
  void initialise();
  void setNeedWeights(bool need) override { needWeights_ = need; }
  bool needsWeights() const override { return needWeights_; }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<c10::Device>& device = std::nullopt) const override;

  const MultiheadAttentionOptions& settings() const { return settings_; }
  // Whether the self-attention of inputs without gradients can be computed by a fused kernel.
  bool fusable(const at::Tensor& query) const;
  // Whether autograd would have to know of an operation on these parameters.
  bool tracksGradients(const at::Tensor& input) const;
  // Both masks in one as fused kernels take them (true: hidden), with the kernels' number for its form.
  std::pair<std::optional<at::Tensor>, std::optional<int64_t>> mergeMasks(const Mask& attnMask, const Mask& padding,
                                                                          const at::Tensor& query) const;

 private:
  AttentionResult fused(const at::Tensor& query, const AttentionArguments& arguments, bool needWeights);
  AttentionResult composed(at::Tensor query, at::Tensor key, at::Tensor value, const AttentionArguments& arguments,
                           bool needWeights);
  std::vector<at::Tensor> project(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) const;

  const MultiheadAttentionOptions settings_;
  std::atomic<bool> needWeights_{false};  // set while runs on other threads look at it
};

}  // namespace lta::nn
