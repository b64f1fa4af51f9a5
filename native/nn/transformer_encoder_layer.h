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

// libtorch's layer with what Python's has beyond it (batch_first, norm_first, layer_norm_eps, bias, the fused path),
// with blocks that can be overridden, and whose self-attention can be asked for its weights.
class TransformerEncoderLayer : public torch::nn::TransformerEncoderLayerImpl, public NativeModule {
 public:
  explicit TransformerEncoderLayer(const TransformerLayerOptions& options);

  at::Tensor forward(const at::Tensor& src, const EncoderArguments& arguments);
  // The same as a submodule that is registered as `name`.
  at::Tensor call(const std::string& name, const at::Tensor& src, const EncoderArguments& arguments);

  // [src]; srcMask, srcKeyPaddingMask, isCausal.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  // Draws initial values, in the order in which Python's constructor does.
  void initialise();
  // Where set, the self-attention gives its weights beside its output: hooks on it see them, and so do blocks that
  // override selfAttentionBlock.
  void setNeedWeights(bool need) override { attention_->setNeedWeights(need); }
  bool needsWeights() const override { return attention_->needsWeights(); }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<c10::Device>& device = std::nullopt) const override;

  const TransformerLayerOptions& settings() const { return settings_; }
  const MultiheadAttention& attention() const { return *attention_; }
  // Whether autograd would have to know of an operation on these parameters.
  bool tracksGradients(const at::Tensor& src) const;

 protected:
  virtual at::Tensor selfAttentionBlock(const at::Tensor& x, const EncoderArguments& arguments);
  virtual at::Tensor feedForwardBlock(const at::Tensor& x);
  // Whether the whole layer may run as one kernel, which calls neither block. To be overridden together with them.
  virtual bool mayFuse(const at::Tensor& src, const EncoderArguments& arguments) const;

 private:
  at::Tensor fused(const at::Tensor& src, const EncoderArguments& arguments);

  const TransformerLayerOptions settings_;
  std::shared_ptr<MultiheadAttention> attention_;  // what libtorch's member `self_attn` holds
};

// What the named arguments of an encoder's forward say.
EncoderArguments encoderArguments(const NamedArguments& named, at::ScalarType type);

}  // namespace lta::nn
