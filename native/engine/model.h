// What models of every kind share: runs, captures, hooks, locks. Knows neither TorchScript nor native modules nor
// Node-API.
#pragma once

#include <ATen/core/function_schema.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/options.h"
#include "hooks/hook_registry.h"
#include "runtime/activity.h"

namespace lta::engine {

// Thread-safe; what changes parameters waits for runs in flight.
class Model : public std::enable_shared_from_this<Model> {
 public:
  // A model that is a part of this one. Hooks on its modules are its own, whichever of the two they were added through,
  // and fire in runs of both. It is locked together with this one.
  struct Part {
    std::string name;
    std::shared_ptr<Model> model;
  };

  // Removes the hooks that were added to its parts through it.
  virtual ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // The name of the kind for errors, with static lifetime.
  virtual const char* kind() const = 0;
  virtual std::vector<ModuleInfo> modules() const = 0;
  // Neither waits for runs in flight: the tensors are the model's own, whose data `to` replaces inside `exchange`.
  virtual std::vector<NamedTensor> parameters() const = 0;
  // As Python's state_dict(): parameters and buffers, those of a shared module under each of its names.
  virtual std::vector<NamedTensor> stateDict() const = 0;

  // The methods that can be run, and the schema of one; null for a model that takes tensors and named arguments.
  // `schema` throws ERR_INVALID_ARGUMENT for an unknown method.
  virtual std::vector<std::string> methods() const = 0;
  virtual const c10::FunctionSchema* schema(const std::string& method) const = 0;

  // What a run that is requested now will see.
  virtual std::shared_ptr<const Snapshot> snapshot() const;

  c10::IValue run(Inputs inputs, const RunOptions& options);
  CaptureResult capture(Inputs inputs, const RunOptions& options, CaptureOptions capture);
  TensorCaptureResult captureTensors(Inputs inputs, const RunOptions& options, TensorCaptureOptions capture);

  // `exchange` gets a function that replaces all data by the moved data, and calls it where nobody reads them
  // concurrently.
  using Exchange = std::function<void(const std::function<void()>&)>;
  void to(c10::Device device, const Exchange& exchange);

  // By dotted module name; '' is the model itself. `addHook` throws ERR_UNKNOWN_MODULE.
  void addHook(const std::string& module, HookPtr hook);
  void removeHook(const std::string& module, const HookPtr& hook);

  // What is in flight. `beginActivity` counts for its parts as well and keeps the model alive: forked tasks that nobody
  // awaits still run its code.
  const std::shared_ptr<Activity>& activity() const { return activity_; }
  std::shared_ptr<const void> beginActivity();

 protected:
  // Throws ERR_UNKNOWN_MODULE where no hook can be: by default, at what is no module.
  virtual void checkHookPlace(const std::string& place) const;

  explicit Model(std::vector<Part> parts = {}) : parts_(std::move(parts)), mutexes_(mutexesOf(parts_, parameters_)) {}

  // Runs a method. With `captureGradients`, attention has to be differentiable and every operator visible to the
  // dispatcher.
  virtual c10::IValue execute(Inputs inputs, const RunOptions& options, const Snapshot& snapshot,
                              bool captureGradients) = 0;
  virtual std::shared_ptr<const ModuleResolver> resolver() const = 0;
  // What `to` moves, and a callback after it, under the exclusive lock.
  virtual std::vector<at::Tensor> movableTensors() const = 0;
  virtual void onMoved(c10::Device device) {}

  // The hooks of this model and of its parts, by their names in it.
  std::shared_ptr<const HookSet> hooks() const;
  // Lock this model and, recursively, its parts: shared by runs, exclusive for changes of parameters.
  using SharedLocks = std::vector<std::shared_lock<std::shared_mutex>>;
  using ExclusiveLocks = std::vector<std::unique_lock<std::shared_mutex>>;
  // Of a blocking run: throws ERR_MODEL_RUN where others would wait.
  SharedLocks lockForRun(bool blocking) const;
  ExclusiveLocks lockForChange() const;

 private:
  static std::vector<std::shared_mutex*> mutexesOf(const std::vector<Part>& parts, std::shared_mutex& own);
  void collectActivity(std::vector<std::shared_ptr<const void>>& into);
  // The part that a module belongs to and the module's name in it; null for a module of this model itself.
  std::pair<const Part*, std::string> partOf(const std::string& module) const;

  const std::vector<Part> parts_;
  std::shared_mutex parameters_;
  const std::vector<std::shared_mutex*> mutexes_;  // its own and those of its parts, each once, in one order
  HookRegistry hooks_;                             // without those of its parts
  std::mutex hooksOnPartsMutex_;
  std::vector<std::pair<std::string, std::weak_ptr<Hook>>> hooksOnParts_;  // added through this model
  const std::shared_ptr<Activity> activity_ = std::make_shared<Activity>();
};

}  // namespace lta::engine
