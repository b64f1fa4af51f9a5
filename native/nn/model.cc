#include "nn/model.h"

#include <ATen/ATen.h>

#include <atomic>

#include "engine/parameter_resolver.h"
#include "hooks/hook_run.h"
#include "runtime/error.h"

namespace lta::nn {
namespace {

// Global, since a change of a part's modes concerns every model that contains it.
std::atomic<uint64_t> modesEpoch{1};

struct Snapshot final : engine::Snapshot {
  std::shared_ptr<const Modes> modes;
};

}  // namespace

Model::Model(std::shared_ptr<torch::nn::Module> module, std::vector<Part> parts)
    : engine::Model(std::move(parts)),
      module_(std::move(module)),
      native_(dynamic_cast<NativeModule*>(module_.get())),
      someParameter_(module_->parameters().front()) {
  TORCH_INTERNAL_ASSERT(native_, "a model needs a native module");
}

std::vector<engine::ModuleInfo> Model::modules() const {
  std::vector<engine::ModuleInfo> infos;
  for (const auto& entry : module_->named_modules()) infos.push_back({entry.key(), typeName(*entry.value())});
  return infos;
}

std::vector<engine::NamedTensor> Model::parameters() const {
  std::vector<engine::NamedTensor> parameters;
  for (const auto& entry : module_->named_parameters()) parameters.push_back({entry.key(), entry.value()});
  return parameters;
}

const c10::FunctionSchema* Model::schema(const std::string& method) const {
  if (method == "forward") return nullptr;
  throw Error("ERR_INVALID_ARGUMENT", "Expected 'forward' for method but received '" + method + "'");
}

std::shared_ptr<const engine::Snapshot> Model::snapshot() const {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->hooks = hooks();
  snapshot->modes = modes();
  return snapshot;
}

void Model::checkDevice(const std::string& name, const at::Tensor& tensor) const {
  const auto device = someParameter_.device();
  if (tensor.device() == device) return;
  throw Error("ERR_INVALID_ARGUMENT", "Expected a tensor on " + device.str() + ", where the module is, for " + name +
                                          " but received one on " + tensor.device().str());
}

c10::IValue Model::execute(engine::Inputs inputs, const engine::RunOptions& options, const engine::Snapshot& snapshot,
                           bool captureGradients) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(inputs.positional.size());
  for (size_t i = 0; i < inputs.positional.size(); ++i) {
    tensors.push_back(std::move(inputs.positional[i]).toTensor());
    checkDevice(inputs.names.at(i), tensors.back());
  }
  NamedArguments named;
  for (const auto& [name, value] : inputs.named) {
    if (value.isTensor()) {
      checkDevice(name, value.toTensor());
      named.tensors[name] = value.toTensor();
    } else {
      named.flags[name] = value.toBool();
    }
  }
  const auto& seen = static_cast<const Snapshot&>(snapshot);
  const c10::AutoGradMode grad(options.grad || captureGradients);
  const ModelScope model(seen.hooks.get(), options.needWeights, seen.modes.get());
  if (!seen.hooks && !options.cancellation) return native_->run(tensors, named);
  const HookScope scope(std::make_shared<HookRun>(seen.hooks, options.cancellation));
  return native_->run(tensors, named);
}

std::shared_ptr<const ModuleResolver> Model::resolver() const {
  auto owners = std::make_shared<engine::ParameterOwners>();
  for (const auto& [name, tensor] : parameters()) {
    const auto dot = name.rfind('.');
    owners->emplace(tensor.unsafeGetTensorImpl(), dot == std::string::npos ? "" : name.substr(0, dot));
  }
  return std::make_shared<engine::ParameterResolver<currentModule>>(std::move(owners));
}

std::vector<at::Tensor> Model::movableTensors() const {
  auto tensors = module_->parameters();
  for (auto& buffer : module_->buffers()) tensors.push_back(std::move(buffer));
  return tensors;
}

void Model::train(bool mode) {
  module_->train(mode);
  ++modesEpoch;
}

std::shared_ptr<const Modes> Model::modes() const {
  if (!modes_ || modesEpoch_ != modesEpoch) {
    modesEpoch_ = modesEpoch;
    auto training = std::make_shared<Modes>();
    for (const auto& module : module_->modules()) {
      if (module->is_training()) training->insert(module.get());
    }
    modes_ = std::move(training);
  }
  return modes_;
}

void Model::load(const std::vector<std::pair<std::string, at::Tensor>>& values) {
  const auto locks = lockForChange();
  const at::NoGradGuard noGrad;
  auto parameters = module_->named_parameters();
  for (const auto& [name, value] : values) {
    auto* const parameter = parameters.find(name);
    if (!parameter) {
      throw Error("ERR_INVALID_ARGUMENT",
                  "Expected the name of a parameter of this module but received '" + name + "'");
    }
    parameter->copy_(value);
  }
}

}  // namespace lta::nn
