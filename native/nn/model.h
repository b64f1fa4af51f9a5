// A native module as a Model.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "nn/module_call.h"
#include "nn/native_module.h"

namespace lta::nn {

// Runs the module as the root of its forwards, with its hooks.
class Model final : public engine::Model {
 public:
  // `module` must be a NativeModule.
  explicit Model(std::shared_ptr<torch::nn::Module> module, std::vector<Part> parts = {});

  const char* kind() const override { return "module"; }
  std::vector<engine::ModuleInfo> modules() const override;
  std::vector<engine::NamedTensor> parameters() const override;
  std::vector<engine::NamedTensor> stateDict() const override { return parameters(); }
  std::vector<std::string> methods() const override { return {"forward"}; }
  const c10::FunctionSchema* schema(const std::string& method) const override;
  std::shared_ptr<const engine::Snapshot> snapshot() const override;

  const std::shared_ptr<torch::nn::Module>& module() const { return module_; }
  NativeModule& native() const { return *native_; }

  // Copies values into the named parameters; shapes must match.
  void load(const std::vector<std::pair<std::string, at::Tensor>>& values);

  // Training mode for runs requested from now on. `train`, `trains` and `snapshot` must be called on one thread.
  void train(bool mode);
  bool trains() const { return module_->is_training(); }

 protected:
  c10::IValue execute(engine::Inputs inputs, const engine::RunOptions& options, const engine::Snapshot& snapshot,
                      bool captureGradients) override;
  std::shared_ptr<const ModuleResolver> resolver() const override;
  std::vector<at::Tensor> movableTensors() const override;

 private:
  std::shared_ptr<const Modes> modes() const;
  // Checked here, since libtorch's error names an operator rather than the argument.
  void checkDevice(const std::string& name, const at::Tensor& tensor) const;

  const std::shared_ptr<torch::nn::Module> module_;
  NativeModule* const native_;
  const at::Tensor someParameter_;              // on the module's device
  mutable std::shared_ptr<const Modes> modes_;  // as of `modesEpoch_`
  mutable uint64_t modesEpoch_ = 0;
};

}  // namespace lta::nn
