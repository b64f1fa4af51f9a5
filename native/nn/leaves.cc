#include "nn/leaves.h"

#include <ATen/ATen.h>

#include "nn/module_call.h"

namespace lta::nn {
namespace {

template <typename Holder>
at::Tensor callLeaf(const std::string& name, Holder module, const at::Tensor& input) {
  return callModule(name, *module, {input},
                    [&](const std::vector<c10::IValue>& inputs) -> c10::IValue {
                      return module->forward(inputs.at(0).toTensor());
                    })
      .toTensor();
}

}  // namespace

// libtorch's constructor draws initial values; for one element that is cheap.
Linear::Linear(int64_t in, int64_t out, bool bias) : torch::nn::LinearImpl(torch::nn::LinearOptions(1, 1).bias(bias)) {
  options.in_features(in).out_features(out);
  weight.set_data(at::empty({out, in}, weight.options()));
  if (bias) this->bias.set_data(at::empty({out}, weight.options()));
}

LayerNorm::LayerNorm(const LayerNormOptions& options)
    : torch::nn::LayerNormImpl(torch::nn::LayerNormOptions({options.size}).eps(options.eps)), options_(options) {
  if (options.bias) return;
  bias = at::Tensor();
  parameters_.erase("bias");
}

std::shared_ptr<torch::nn::LinearImpl> linear(int64_t in, int64_t out, bool bias) {
  return std::make_shared<Linear>(in, out, bias);
}

std::shared_ptr<torch::nn::LayerNormImpl> layerNorm(const LayerNormOptions& options) {
  return std::make_shared<LayerNorm>(options);
}

c10::IValue LayerNorm::run(const std::vector<at::Tensor>& inputs, const NamedArguments&) {
  return callModule("", *this, {inputs.at(0)}, [&](const std::vector<c10::IValue>& given) -> c10::IValue {
    return forward(given.at(0).toTensor());
  });
}

std::shared_ptr<torch::nn::Module> LayerNorm::clone(const std::optional<c10::Device>&) const {
  return copyOf(*this, options_);
}

at::Tensor call(const std::string& name, const torch::nn::Linear& module, const at::Tensor& input) {
  return callLeaf(name, module, input);
}
at::Tensor call(const std::string& name, const torch::nn::LayerNorm& module, const at::Tensor& input) {
  return callLeaf(name, module, input);
}
at::Tensor call(const std::string& name, const torch::nn::Dropout& module, const at::Tensor& input) {
  return callModule(name, *module, {input},
                    [&](const std::vector<c10::IValue>& inputs) -> c10::IValue {
                      return at::dropout(inputs.at(0).toTensor(), module->options.p(), trains(*module));
                    })
      .toTensor();
}

}  // namespace lta::nn
