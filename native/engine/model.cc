#include "engine/model.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "capture/probe.h"
#include "runtime/error.h"
#include "runtime/lock_yielding_slot.h"
#include "runtime/run_scope.h"

namespace lta::engine {
namespace {

// Runs `run`; where that ends with something that a capture threw into it, with that itself: it comes back as another
// exception.
template <typename Watching, typename Run>
auto reportingFailureOf(const Watching& capture, Run run) -> decltype(run()) {
  try {
    return run();
  } catch (...) {
    if (const auto failure = capture.failure()) std::rethrow_exception(failure);
    throw;
  }
}

}  // namespace

Model::~Model() {
  for (const auto& [module, weak] : hooksOnParts_) {
    if (const auto hook = weak.lock()) removeHook(module, hook);
  }
}

std::vector<std::shared_mutex*> Model::mutexesOf(const std::vector<Part>& parts, std::shared_mutex& own) {
  std::vector<std::shared_mutex*> mutexes{&own};
  for (const auto& part : parts) {
    const auto& others = part.model->mutexes_;
    mutexes.insert(mutexes.end(), others.begin(), others.end());
  }
  std::sort(mutexes.begin(), mutexes.end());
  mutexes.erase(std::unique(mutexes.begin(), mutexes.end()), mutexes.end());
  return mutexes;
}

Model::SharedLocks Model::lockForRun(bool blocking) const {
  if (!blocking) return lockAllYieldingSlot<std::shared_lock<std::shared_mutex>>(mutexes_);
  SharedLocks locks;
  locks.reserve(mutexes_.size());
  for (auto* const mutex : mutexes_) {
    if (locks.emplace_back(*mutex, std::try_to_lock)) continue;
    throw Error(
        "ERR_MODEL_RUN",
        "Expected parameters that stay as they are but received a model whose parameters are being changed: await "
        "that before a run that blocks");
  }
  return locks;
}

Model::ExclusiveLocks Model::lockForChange() const {
  return lockAllYieldingSlot<std::unique_lock<std::shared_mutex>>(mutexes_);
}

std::shared_ptr<const HookSet> Model::hooks() const {
  auto own = hooks_.snapshot();
  std::shared_ptr<HookSet> merged;
  for (const auto& part : parts_) {
    const auto hooks = part.model->hooks();
    if (!hooks) continue;
    if (!merged) merged = own ? std::make_shared<HookSet>(*own) : std::make_shared<HookSet>();
    for (const auto& [module, list] : *hooks) {
      auto& target = (*merged)[module.empty() ? part.name : part.name + "." + module];
      target.insert(target.end(), list.begin(), list.end());
    }
  }
  return merged ? merged : own;
}

std::shared_ptr<const Snapshot> Model::snapshot() const {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->hooks = hooks();
  return snapshot;
}

c10::IValue Model::run(Inputs inputs, const RunOptions& options) {
  const auto locks = lockForRun(options.blocking);
  const auto seen = options.snapshot ? options.snapshot : snapshot();
  return execute(std::move(inputs), options, *seen, /*captureGradients=*/false);
}

CaptureResult Model::capture(Inputs inputs, const RunOptions& options, CaptureOptions capture) {
  const auto locks = lockForRun(options.blocking);
  const auto seen = options.snapshot ? options.snapshot : snapshot();
  const bool gradients = capture.gradients;
  capture.hooked = seen->hooks != nullptr;
  CaptureResult result;
  result.capture = std::make_shared<Capture>(std::move(capture), resolver(), options.cancellation);
  {
    const ProbeScope probe(result.capture);
    result.output =
        reportingFailureOf(*result.capture, [&] { return execute(std::move(inputs), options, *seen, gradients); });
  }
  result.attentions = result.capture->finish();
  return result;
}

TensorCaptureResult Model::captureTensors(Inputs inputs, const RunOptions& options, TensorCaptureOptions capture) {
  const auto locks = lockForRun(options.blocking);
  const auto seen = options.snapshot ? options.snapshot : snapshot();
  const auto watching = std::make_shared<TensorCapture>(std::move(capture), resolver());
  TensorCaptureResult result;
  {
    const RunScope observed(watching);
    result.output = reportingFailureOf(
        *watching, [&] { return execute(std::move(inputs), options, *seen, /*captureGradients=*/false); });
  }
  result.tensors = watching->finish();
  return result;
}

void Model::to(c10::Device device, const Exchange& exchange) {
  const auto locks = lockForChange();
  std::vector<std::pair<at::Tensor, at::Tensor>> moved;
  for (const auto& tensor : movableTensors()) moved.emplace_back(tensor, tensor.to(device));
  exchange([&] {
    for (const auto& [tensor, data] : moved) tensor.set_data(data);
  });
  onMoved(device);
}

void Model::checkHookPlace(const std::string& place) const {
  const auto all = modules();
  if (std::none_of(all.begin(), all.end(), [&](const ModuleInfo& each) { return each.name == place; })) {
    throw Error("ERR_UNKNOWN_MODULE", "Expected the name of a module of this model but received '" + place + "'");
  }
}

void Model::addHook(const std::string& module, HookPtr hook) {
  checkHookPlace(module);
  const auto [part, name] = partOf(module);
  if (!part) return hooks_.add(module, std::move(hook));
  {
    const std::lock_guard<std::mutex> lock(hooksOnPartsMutex_);
    std::erase_if(hooksOnParts_, [](const auto& entry) { return entry.second.expired(); });
    hooksOnParts_.emplace_back(module, hook);
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

void Model::collectActivity(std::vector<std::shared_ptr<const void>>& into) {
  into.push_back(activity_->begin());
  for (const auto& part : parts_) part.model->collectActivity(into);
}

std::shared_ptr<const void> Model::beginActivity() {
  struct Token {
    std::shared_ptr<Model> model;
    std::vector<std::shared_ptr<const void>> activities;
  };
  auto token = std::make_shared<Token>();
  token->model = shared_from_this();
  collectActivity(token->activities);
  return token;
}

}  // namespace lta::engine
