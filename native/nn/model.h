#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "nn/module_call.h"
#include "nn/native_module.h"

namespace lta::nn {

// A native module as the outermost one of its forwards, with its hooks.
class Model final : public engine::Model {
 public:
  // `module` has to be a NativeModule.
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

  // Copies values into parameters of these names, whose shapes they have to have.
  void load(const std::vector<std::pair<std::string, at::Tensor>>& values);

  // Training mode, of runs that are asked for afterwards. Both, and `snapshot`, on one thread.
  void train(bool mode);
  bool trains() const { return module_->is_training(); }

 protected:
  c10::IValue execute(engine::Inputs inputs, const engine::RunOptions& options, const engine::Snapshot& snapshot,
                      bool captureGradients) override;
  std::shared_ptr<const ModuleResolver> resolver() const override;
  std::vector<at::Tensor> movableTensors() const override;

 private:
  std::shared_ptr<const Modes> modes() const;
  // libtorch's own error would name an operator and not what the caller gave.
  void checkDevice(const std::string& name, const at::Tensor& tensor) const;

  const std::shared_ptr<torch::nn::Module> module_;
  NativeModule* const native_;
  const at::Tensor someParameter_;              // is where the module is
  mutable std::shared_ptr<const Modes> modes_;  // as of `modesEpoch_`
  mutable uint64_t modesEpoch_ = 0;
};

}  // namespace lta::nn
