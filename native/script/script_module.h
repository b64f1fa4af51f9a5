// A TorchScript checkpoint as a Model.
#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/parameter_resolver.h"
#include "script/device_constants.h"
#include "script/program_cache.h"

namespace lta::script {

class ScriptModule final : public engine::Model {
 public:
  struct Options {
    bool optimize = false;
    bool fuse = false;
    std::optional<at::ScalarType> dtype;                     // that the module was cast to
    c10::Device device = c10::Device(c10::DeviceType::CPU);  // that it was loaded on
  };
  ScriptModule(torch::jit::Module module, const Options& options);

  const char* kind() const override { return "ScriptModule"; }
  std::vector<engine::ModuleInfo> modules() const override;
  std::vector<engine::NamedTensor> parameters() const override { return parameters_; }
  std::vector<engine::NamedTensor> stateDict() const override;
  std::vector<std::string> methods() const override;
  const c10::FunctionSchema* schema(const std::string& method) const override;

 protected:
  c10::IValue execute(engine::Inputs inputs, const engine::RunOptions& options, const engine::Snapshot& snapshot,
                      bool captureGradients) override;
  std::shared_ptr<const ModuleResolver> resolver() const override { return resolver_; }
  std::vector<at::Tensor> movableTensors() const override;
  void onMoved(c10::Device device) override;

 private:
  using Resolver = engine::ParameterResolver<currentModuleName>;

  c10::IValue runProgram(std::vector<c10::IValue> inputs, const engine::RunOptions& options,
                         const std::shared_ptr<const HookSet>& hooks, bool captureGradients);
  c10::IValue call(const Program& program, const std::vector<c10::IValue>& inputs, bool blocking);
  c10::IValue interpret(const Program& program, const std::vector<c10::IValue>& inputs, bool blocking);
  std::optional<ModuleCall> rootCall(const std::string& method) const;
  void readState();

  torch::jit::Module module_;
  DeviceConstants devices_;
  const Options options_;
  std::vector<NamedModule> named_;
  std::vector<engine::NamedTensor> parameters_;
  std::shared_ptr<const engine::ParameterOwners> owners_;
  mutable std::mutex stateMutex_;
  std::vector<engine::NamedTensor> state_;  // as of the last completed run
  std::shared_ptr<const Resolver> resolver_;
  std::unique_ptr<ProgramCache> programs_;
};

}  // namespace lta::script
