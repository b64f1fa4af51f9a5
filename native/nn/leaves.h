// Leaf modules: libtorch's, plus construction without initialization and a LayerNorm without bias.
#pragma once

#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <optional>
#include <string>

#include "nn/native_module.h"

namespace lta::nn {

class Linear final : public torch::nn::LinearImpl {
 public:
  // Leaves the parameters uninitialised; reset_parameters() initialises them.
  Linear(int64_t in, int64_t out, bool bias);
};

struct LayerNormOptions {
  int64_t size;
  double eps = 1e-5;
  bool bias = true;
};

class LayerNorm final : public torch::nn::LayerNormImpl, public NativeModule {
 public:
  explicit LayerNorm(const LayerNormOptions& options);

  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) override;
  std::shared_ptr<torch::nn::Module> clone(const std::optional<c10::Device>& device = std::nullopt) const override;

 private:
  const LayerNormOptions options_;
};

// The same as pointers that libtorch's holders accept.
std::shared_ptr<torch::nn::LinearImpl> linear(int64_t in, int64_t out, bool bias);
std::shared_ptr<torch::nn::LayerNormImpl> layerNorm(const LayerNormOptions& options);

// Call a module by the name it is registered under.
at::Tensor call(const std::string& name, const torch::nn::Linear& module, const at::Tensor& input);
at::Tensor call(const std::string& name, const torch::nn::LayerNorm& module, const at::Tensor& input);
at::Tensor call(const std::string& name, const torch::nn::Dropout& module, const at::Tensor& input);

}  // namespace lta::nn
