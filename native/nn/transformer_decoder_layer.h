// nn.TransformerDecoderLayer as in Python, with blocks that can be overridden.
#pragma once

#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <memory>
#include <string>
#include <vector>

#include "nn/multihead_attention.h"
#include "nn/transformer_layer_options.h"

namespace lta::nn {

// The masks of a decoder and its layers.
struct DecoderArguments {
  Mask tgtMask;
  Mask memoryMask;
  Mask tgtKeyPaddingMask;
  Mask memoryKeyPaddingMask;
  bool tgtIsCausal = false;
  bool memoryIsCausal = false;
};

class TransformerDecoderLayer : public torch::nn::Module, public NativeModule {
 public:
  explicit TransformerDecoderLayer(const TransformerLayerOptions& options);

  at::Tensor forward(const at::Tensor& tgt, const at::Tensor& memory, const DecoderArguments& arguments);
  at::Tensor call(const std::string& name, const at::Tensor& tgt, const at::Tensor& memory,
                  const DecoderArguments& arguments);

  // Inputs: tgt, memory. Arguments: tgtMask, memoryMask, tgtKeyPaddingMask, memoryKeyPaddingMask, tgtIsCausal,
  // memoryIsCausal.
  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  // Initialises the parameters in the order of Python's constructor.
  void initialise();
  void setNeedWeights(bool need) override;
  bool needsWeights() const override { return selfAttention_->needsWeights() && crossAttention_->needsWeights(); }
  std::shared_ptr<torch::nn::Module> clone(const std::optional<c10::Device>& device = std::nullopt) const override;

  const TransformerLayerOptions& settings() const { return settings_; }

 protected:
  virtual at::Tensor selfAttentionBlock(const at::Tensor& x, const DecoderArguments& arguments);
  virtual at::Tensor crossAttentionBlock(const at::Tensor& x, const at::Tensor& memory,
                                         const DecoderArguments& arguments);
  virtual at::Tensor feedForwardBlock(const at::Tensor& x);

 private:
  const TransformerLayerOptions settings_;
  std::shared_ptr<MultiheadAttention> selfAttention_, crossAttention_;
  torch::nn::Linear linear1_{nullptr}, linear2_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr}, norm3_{nullptr};
  torch::nn::Dropout dropout_{nullptr}, dropout1_{nullptr}, dropout2_{nullptr}, dropout3_{nullptr};
};

// Parses the named arguments of a decoder's forward.
DecoderArguments decoderArguments(const NamedArguments& named, at::ScalarType type);

}  // namespace lta::nn
