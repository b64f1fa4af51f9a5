#pragma once

#include <ATen/core/ivalue.h>
#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lta::nn {

// The arguments of a forward that have names (masks and flags); absent where they were left out.
struct NamedArguments {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, bool> flags;

  at::Tensor tensor(const std::string& name) const;
  std::optional<bool> flag(const std::string& name) const;
};

// What the modules of this folder have in common beside being modules of libtorch.
class NativeModule {
 public:
  virtual ~NativeModule() = default;

  // Runs the module as the outermost one, on checked arguments.
  virtual c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) = 0;
  // Whether its attentions return their weights, [B, H, Q, K], beside their output: all of them, where parts of it were
  // told different things. False where it has none.
  virtual void setNeedWeights(bool need) {}
  virtual bool needsWeights() const { return false; }
};

// While one lives, what draws random numbers on the CPU leaves no trace: constructors of libtorch draw initial values
// that are overwritten here, and copies must not change what a seed gives.
class KeepRandomState {
 public:
  KeepRandomState();
  ~KeepRandomState();
  KeepRandomState(const KeepRandomState&) = delete;
  KeepRandomState& operator=(const KeepRandomState&) = delete;

 private:
  const at::Tensor state_;
};

// Copies parameters and mode of a module into another one of the same make.
void copyState(const torch::nn::Module& from, torch::nn::Module& to);

// A module with uninitialised parameters.
template <typename Made, typename Options>
std::shared_ptr<Made> makeUninitialised(const Options& options) {
  const KeepRandomState keep;
  return std::make_shared<Made>(options);
}

// A module as its Python twin's constructor leaves it.
template <typename Made, typename Options>
std::shared_ptr<Made> make(const Options& options) {
  auto made = makeUninitialised<Made>(options);
  made->initialise();
  return made;
}

template <typename Made, typename Options>
std::shared_ptr<Made> copyOf(const Made& module, const Options& options) {
  auto copy = makeUninitialised<Made>(options);
  copyState(module, *copy);
  return copy;
}

}  // namespace lta::nn
