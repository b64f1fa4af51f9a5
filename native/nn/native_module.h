// The base of native modules, and their construction without drawing random numbers.
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

// Named arguments of a forward (masks and flags); omitted ones are absent.
struct NamedArguments {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, bool> flags;

  at::Tensor tensor(const std::string& name) const;
  std::optional<bool> flag(const std::string& name) const;
};

// What native modules have in addition to torch::nn::Module.
class NativeModule {
 public:
  virtual ~NativeModule() = default;

  // Runs the module as the root, on validated arguments.
  virtual c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) = 0;
  // Makes all attentions in it return weights, [B, H, Q, K], beside their output.
  virtual void setNeedWeights(bool need) {}
  // Whether all of them do; false without attentions.
  virtual bool needsWeights() const { return false; }
};

// While one lives, initialisation in libtorch's constructors is skipped on this thread: the values are overwritten
// anyway, and drawing them would advance the global generator under runs in flight. The skipped tensors are undefined
// in value.
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

// Registers the kernels that it needs, once per process (see registration.h).
void registerSkipInit();

// Copies parameters and mode between modules of the same structure.
void copyState(const torch::nn::Module& from, torch::nn::Module& to);

// A module with uninitialised parameters.
template <typename Made, typename Options>
std::shared_ptr<Made> makeUninitialised(const Options& options) {
  const SkipInit skipping;
  return std::make_shared<Made>(options);
}

// A module initialised as by Python's constructor.
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
