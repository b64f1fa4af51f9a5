// nn.TransformerEncoderLayer as in Python, with blocks that can be overridden.
#pragma once

#include <torch/nn/modules/transformerlayer.h>

#include <memory>
#include <string>
#include <vector>

#include "nn/multihead_attention.h"
#include "nn/transformer_layer_options.h"

namespace lta::nn {

// The masks of an encoder and its layers.
struct EncoderArguments {
  Mask srcMask;
  Mask srcKeyPaddingMask;
  bool isCausal = false;
};

// libtorch's layer plus what Python's has: batch_first, norm_first, layer_norm_eps, bias=False, the fused path.
class TransformerEncoderLayer : public torch::nn::TransformerEncoderLayerImpl, public NativeModule {
 public:
  explicit TransformerEncoderLayer(const TransformerLayerOptions& options);

  at::Tensor forward(const at::Tensor& src, const EncoderArguments& arguments);
  // The same, called as the submodule `name`.
  at::Tensor call(const std::string& name, const at::Tensor& src, const EncoderArguments& arguments);

  // Inputs: src. Arguments: srcMask, srcKeyPaddingMask, isCausal.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  // Initialises the parameters in the order of Python's constructor.
  void initialise();
  // Makes the self-attention return weights, visible to its hooks and to overrides of selfAttentionBlock.
  void setNeedWeights(bool need) override { attention_->setNeedWeights(need); }
  bool needsWeights() const override { return attention_->needsWeights(); }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<c10::Device>& device = std::nullopt) const override;

  const TransformerLayerOptions& settings() const { return settings_; }
  const MultiheadAttention& attention() const { return *attention_; }
  // Whether autograd records operations on these parameters or `src`.
  bool tracksGradients(const at::Tensor& src) const;

 protected:
  virtual at::Tensor selfAttentionBlock(const at::Tensor& x, const EncoderArguments& arguments);
  virtual at::Tensor feedForwardBlock(const at::Tensor& x);
  // Whether the layer may run as one kernel, which calls neither block. Override together with them.
  virtual bool mayFuse(const at::Tensor& src, const EncoderArguments& arguments) const;

 private:
  at::Tensor fused(const at::Tensor& src, const EncoderArguments& arguments);

  const TransformerLayerOptions settings_;
  std::shared_ptr<MultiheadAttention> attention_;  // owned by libtorch's `self_attn`, too
};

// Parses the named arguments of an encoder's forward.
EncoderArguments encoderArguments(const NamedArguments& named, at::ScalarType type);

}  // namespace lta::nn
