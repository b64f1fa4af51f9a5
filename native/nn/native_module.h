#pragma once

#include <ATen/core/ivalue.h>
#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "torch/dispatch_keys.h"

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
  // Has all of its attentions return their weights, [B, H, Q, K], beside their output, or none.
  virtual void setNeedWeights(bool need) {}
  // Whether all of them do; false where it has none.
  virtual bool needsWeights() const { return false; }
};

// While one lives, constructors of libtorch on its thread draw no initial values, since they are overwritten here: the
// generator that all share, from which runs in flight may be drawing, stays as it is. What they would have filled is
// undefined.
class SkipInit {
 public:
  SkipInit();
  ~SkipInit();
  SkipInit(const SkipInit&) = delete;
  SkipInit& operator=(const SkipInit&) = delete;

 private:
  const bool before_;
  const IncludeDispatchKey key_;
};

// Registers the operators that it needs, once a process (see registration.h).
void registerSkipInit();

// Copies parameters and mode of a module into another one of the same make.
void copyState(const torch::nn::Module& from, torch::nn::Module& to);

// A module with uninitialised parameters.
template <typename Made, typename Options>
std::shared_ptr<Made> makeUninitialised(const Options& options) {
  const SkipInit skipping;
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
