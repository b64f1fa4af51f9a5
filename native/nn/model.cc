#include "nn/model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "capture/probe.h"
#include "hooks/hook_run.h"
#include "nn/module_call.h"
#include "runtime/error.h"
#include "runtime/patient_lock.h"

namespace lta::nn {
namespace {

class Resolver final : public ModuleResolver {
 public:
  explicit Resolver(const torch::nn::Module& root) {
    for (const auto& parameter : root.named_parameters()) {
      const auto& name = parameter.key();
      const auto dot = name.rfind('.');
      owners_.emplace(parameter.value().unsafeGetTensorImpl(), dot == std::string::npos ? "" : name.substr(0, dot));
      storages_.insert(parameter.value().storage().unsafeGetStorageImpl());
    }
  }
  std::string current() const override { return currentModule(); }
  bool isParameter(const at::Tensor& tensor) const override {
    return tensor.has_storage() && storages_.count(tensor.storage().unsafeGetStorageImpl()) != 0;
  }
  std::string ownerOf(const at::Tensor& parameter) const override {
    const auto found = owners_.find(parameter.unsafeGetTensorImpl());
    return found == owners_.end() ? std::string() : found->second;
  }

 private:
  std::unordered_map<const c10::TensorImpl*, std::string> owners_;
  std::unordered_set<const c10::StorageImpl*> storages_;
};

// Counts all changes of modes: one of a part is one of all models that have it.
std::atomic<uint64_t> modesEpoch{1};

}  // namespace

Model::Model(std::shared_ptr<torch::nn::Module> module, std::vector<Part> parts)
    : module_(std::move(module)),
      native_(dynamic_cast<NativeModule*>(module_.get())),
      parts_(std::move(parts)),
      someParameter_(module_->parameters().front()) {
  TORCH_INTERNAL_ASSERT(native_, "a model needs a native module");
}

void Model::collectMutexes(std::vector<std::shared_mutex*>& mutexes) const {
  mutexes.push_back(&changing_);
  for (const auto& part : parts_) part.model->collectMutexes(mutexes);
}

Model::~Model() {
  for (const auto& [module, lent] : onParts_) {
    if (const auto hook = lent.lock()) removeHook(module, hook);
  }
}

// Locks this model, its parts and theirs.
template <typename Lock>
std::vector<Lock> Model::lock() const {
  std::vector<std::shared_mutex*> mutexes;
  collectMutexes(mutexes);
  std::sort(mutexes.begin(), mutexes.end());
  mutexes.erase(std::unique(mutexes.begin(), mutexes.end()), mutexes.end());
  return patientLocks<Lock>(mutexes);
}

std::shared_ptr<const HookSet> Model::allHooks() const {
  auto own = hooks_.snapshot();
  std::shared_ptr<HookSet> merged;
  for (const auto& part : parts_) {
    const auto hooks = part.model->allHooks();
    if (!hooks) continue;
    if (!merged) merged = own ? std::make_shared<HookSet>(*own) : std::make_shared<HookSet>();
    for (const auto& [module, list] : *hooks) {
      auto& target = (*merged)[module.empty() ? part.name : part.name + "." + module];
      target.insert(target.end(), list.begin(), list.end());
    }
  }
  return merged ? merged : own;
}

// libtorch's own error would name an operator and not what the caller gave.
void Model::checkDevices(const std::vector<at::Tensor>& inputs, const NamedArguments& named,
                         const ModelRun& options) const {
  const auto device = someParameter_.device();
  const auto check = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.device() == device) return;
    throw Error("ERR_INVALID_ARGUMENT", "Expected a tensor on " + device.str() + ", where the module is, for " + name +
                                            " but received one on " + tensor.device().str());
  };
  for (size_t i = 0; i < inputs.size(); ++i) check(options.inputNames.at(i), inputs[i]);
  for (const auto& [name, tensor] : named.tensors) check(name, tensor);
}

c10::IValue Model::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named, const ModelRun& options) {
  const auto locks = lock<std::shared_lock<std::shared_mutex>>();
  return runLocked(inputs, named, options, allHooks());
}

c10::IValue Model::runLocked(const std::vector<at::Tensor>& inputs, const NamedArguments& named,
                             const ModelRun& options, const std::shared_ptr<const HookSet>& hooks) {
  checkDevices(inputs, named, options);
  const c10::AutoGradMode grad(options.grad);
  const ModelScope model(hooks.get(), options.needWeights, options.modes.get());
  if (!hooks && !options.cancellation) return native_->run(inputs, named);
  const HookScope scope(std::make_shared<HookRun>(hooks, options.cancellation));
  return native_->run(inputs, named);
}

ModelCapture Model::capture(const std::vector<at::Tensor>& inputs, const NamedArguments& named, const ModelRun& given,
                            CaptureOptions capture) {
  ModelRun options = given;
  options.grad = options.grad || capture.gradients;
  const auto locks = lock<std::shared_lock<std::shared_mutex>>();
  const auto resolver = std::make_shared<Resolver>(*module_);
  const auto hooks = allHooks();
  capture.hooked = hooks != nullptr;
  const auto watching = std::make_shared<Capture>(std::move(capture), resolver, options.cancellation);
  ModelCapture result;
  {
    const ProbeScope probe(watching);
    result.output = runLocked(inputs, named, options, hooks);
  }
  result.attentions = watching->finish();
  result.capture = watching;
  return result;
}

void Model::to(c10::Device device, const Exchange& exchange) {
  const auto locks = lock<std::unique_lock<std::shared_mutex>>();
  std::vector<std::pair<at::Tensor, at::Tensor>> moved;
  for (const auto& parameter : module_->parameters()) moved.emplace_back(parameter, parameter.to(device));
  for (const auto& buffer : module_->buffers()) moved.emplace_back(buffer, buffer.to(device));
  exchange([&] {
    for (const auto& [tensor, data] : moved) tensor.set_data(data);
  });
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

std::shared_ptr<const void> Model::beginActivity() const {
  auto all = std::make_shared<std::vector<std::shared_ptr<const void>>>();
  all->push_back(activity_->begin());
  for (const auto& part : parts_) all->push_back(part.model->beginActivity());
  return all;
}

void Model::load(const std::vector<std::pair<std::string, at::Tensor>>& values) {
  const auto locks = lock<std::unique_lock<std::shared_mutex>>();
  const at::NoGradGuard noGrad;
  auto parameters = module_->named_parameters();
  for (const auto& [name, value] : values) parameters[name].copy_(value);
}

void Model::addHook(const std::string& module, HookPtr hook) {
  const auto modules = module_->named_modules();
  const bool known =
      std::any_of(modules.begin(), modules.end(), [&](const auto& entry) { return entry.key() == module; });
  if (!known) {
    throw Error("ERR_UNKNOWN_MODULE", "Expected the name of a module of this model but received '" + module + "'");
  }
  const auto [part, name] = partOf(module);
  if (!part) return hooks_.add(module, std::move(hook));
  {
    const std::lock_guard<std::mutex> lock(lending_);
    std::erase_if(onParts_, [](const auto& lent) { return lent.second.expired(); });
    onParts_.emplace_back(module, hook);
  }
  part->model->addHook(name, std::move(hook));
}

void Model::removeHook(const std::string& module, const HookPtr& hook) {
  const auto [part, name] = partOf(module);
  if (part) return part->model->removeHook(name, hook);
  hooks_.remove(module, hook);
}

std::pair<const Model::Part*, std::string> Model::partOf(const std::string& module) const {
  for (const auto& part : parts_) {
    if (module == part.name) return {&part, ""};
    if (module.starts_with(part.name + ".")) return {&part, module.substr(part.name.size() + 1)};
  }
  return {nullptr, module};
}

}  // namespace lta::nn
