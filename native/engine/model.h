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

// A model of any kind: what runs and captures of it have in common, its hooks, and what of it may happen at a time.
// Safe to use from several threads at once; what changes parameters waits for runs in flight.
class Model : public std::enable_shared_from_this<Model> {
 public:
  // A model that is a part of this one: hooks on its modules are its own, whichever of the two they were put on by, and
  // fire in runs of both. It is locked together with this one.
  struct Part {
    std::string name;
    std::shared_ptr<Model> model;
  };

  // Takes the hooks along that were put on its parts through it.
  virtual ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // What users call such a model, for errors: a string that outlives it.
  virtual const char* kind() const = 0;
  virtual std::vector<ModuleInfo> modules() const = 0;
  // Neither waits for what is in flight: the tensors are the model's own, which `to` exchanges as its caller says.
  virtual std::vector<NamedTensor> parameters() const = 0;
  // Parameters and buffers, those of a module with several names under each of them: Python's state_dict().
  virtual std::vector<NamedTensor> stateDict() const = 0;

  // Names of the methods that can be run, and the signature of one; null for a model whose inputs are tensors, and
  // which takes named arguments. `schema` throws ERR_INVALID_ARGUMENT for a method that the model doesn't have.
  virtual std::vector<std::string> methods() const = 0;
  virtual const c10::FunctionSchema* schema(const std::string& method) const = 0;

  // The model as a run that is asked for now is to see it.
  virtual std::shared_ptr<const Snapshot> snapshot() const;

  c10::IValue run(Inputs inputs, const RunOptions& options);
  CaptureResult capture(Inputs inputs, const RunOptions& options, CaptureOptions capture);
  TensorCaptureResult captureTensors(Inputs inputs, const RunOptions& options, TensorCaptureOptions capture);

  // `exchange` is told what puts the moved tensors in place of the old ones, at once for all of them, and runs it where
  // nobody looks at them.
  using Exchange = std::function<void(const std::function<void()>&)>;
  void to(c10::Device device, const Exchange& exchange);

  // Hooks on modules by dotted name ('' is the model itself). `addHook` throws ERR_UNKNOWN_MODULE.
  void addHook(const std::string& module, HookPtr hook);
  void removeHook(const std::string& module, const HookPtr& hook);

  // What is going on with this model; what `beginActivity` begins is going on with its parts as well, and keeps the
  // model: a task that it forked and nobody awaits goes on in code that belongs to it.
  const std::shared_ptr<Activity>& activity() const { return activity_; }
  std::shared_ptr<const void> beginActivity();

 protected:
  explicit Model(std::vector<Part> parts = {}) : parts_(std::move(parts)) {}

  // Runs a method. With `captureGradients` attention has to be differentiable, and operators visible one by one.
  virtual c10::IValue execute(Inputs inputs, const RunOptions& options, const Snapshot& snapshot,
                              bool captureGradients) = 0;
  virtual std::shared_ptr<const ModuleResolver> resolver() const = 0;
  // All that `to` moves, and what is to be done when it has: under the lock that excludes runs.
  virtual std::vector<at::Tensor> movableTensors() const = 0;
  virtual void onMoved() {}

  // The hooks of this model and, by their names in it, of its parts.
  std::shared_ptr<const HookSet> hooks() const;
  // Locks this model, its parts and theirs: runs share the lock, what changes parameters excludes them.
  using SharedLocks = std::vector<std::shared_lock<std::shared_mutex>>;
  using ExclusiveLocks = std::vector<std::unique_lock<std::shared_mutex>>;
  SharedLocks lockForRun() const;
  ExclusiveLocks lockForChange() const;

 private:
  void collectMutexes(std::vector<std::shared_mutex*>& mutexes) const;
  std::vector<std::shared_mutex*> allMutexes() const;
  void collectActivity(std::vector<std::shared_ptr<const void>>& into);
  // The part that a module belongs to, and the module's name there; none for one of this model's own.
  std::pair<const Part*, std::string> partOf(const std::string& module) const;

  const std::vector<Part> parts_;
  mutable std::shared_mutex changing_;
  HookRegistry hooks_;  // on modules of its own
  std::mutex hooksOnPartsMutex_;
  std::vector<std::pair<std::string, std::weak_ptr<Hook>>> hooksOnParts_;  // those that were put on them through it
  const std::shared_ptr<Activity> activity_ = std::make_shared<Activity>();
};

}  // namespace lta::engine
