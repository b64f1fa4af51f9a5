// What encoders and decoders share: a stack of clones of one layer and an optional final normalization.
#pragma once

#include <torch/nn/modules/container/modulelist.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "nn/leaves.h"
#include "nn/mask.h"
#include "nn/transformer_layer_options.h"

namespace lta::nn {

template <typename Layer>
class LayerStack : public torch::nn::Module, public NativeModule {
 public:
  void setNeedWeights(bool need) override {
    for (const auto& layer : layers_) layer->setNeedWeights(need);
  }
  bool needsWeights() const override {
    return std::all_of(layers_.begin(), layers_.end(), [](const auto& layer) { return layer->needsWeights(); });
  }
  const TransformerLayerOptions& settings() const { return layers_.front()->settings(); }

 protected:
  LayerStack(const char* type, const Layer& layer, int64_t numLayers, std::shared_ptr<LayerNorm> norm)
      : torch::nn::Module(type) {
    auto list = register_module("layers", torch::nn::ModuleList());
    for (int64_t i = 0; i < numLayers; ++i) {
      layers_.push_back(std::dynamic_pointer_cast<Layer>(layer.clone()));
      list->push_back(layers_.back());
      names_.push_back("layers." + std::to_string(i));
    }
    if (norm)
      norm_ = torch::nn::LayerNorm(register_module("norm", std::shared_ptr<torch::nn::LayerNormImpl>(std::move(norm))));
  }

  const Layer& first() const { return *layers_.front(); }

  // Whether the mask of `x` is causal: the caller's flag, or, without one, detected from the mask.
  bool isCausal(const NamedArguments& named, const char* flag, const char* maskName, const at::Tensor& x) const {
    if (const auto said = named.flag(flag)) return *said;
    const auto mask = named.tensor(maskName);
    return mask.defined() && isCausalMask(mask, x.dim() == 3 && settings().batchFirst ? x.size(1) : x.size(0));
  }

  // Calls all layers in order. `more` are the same for each.
  template <typename... More>
  at::Tensor callLayers(at::Tensor x, const More&... more) {
    for (size_t i = 0; i < layers_.size(); ++i) x = layers_[i]->call(names_[i], x, more...);
    return x;
  }

  at::Tensor normalized(const at::Tensor& x) const { return norm_ ? nn::call("norm", norm_, x) : x; }

 private:
  std::vector<std::shared_ptr<Layer>> layers_;
  std::vector<std::string> names_;
  torch::nn::LayerNorm norm_{nullptr};
};

}  // namespace lta::nn
