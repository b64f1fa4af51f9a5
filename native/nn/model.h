#pragma once

#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "capture/capture.h"
#include "hooks/hook_registry.h"
#include "nn/module_call.h"
#include "nn/native_module.h"
#include "runtime/activity.h"
#include "runtime/cancellation.h"
#include "runtime/release_value.h"

namespace lta::nn {

struct ModelRun {
  std::vector<std::string> inputNames;  // for errors
  bool grad = false;
  CancellationPtr cancellation;
  bool needWeights = false;  // the attentions return their weights in this run, whatever their own flag says
  // The modes that the run sees, as `modes` gave them when it was asked for. Without it, those that there are then.
  std::shared_ptr<const Modes> modes;
};

struct ModelCapture {
  ReleasedValue output;
  std::vector<Attention> attentions;
  std::shared_ptr<Capture> capture;
};

// A native module as the outermost one of its forwards, with its hooks. Safe to use from several threads at once;
// what changes parameters waits for runs under way.
class Model {
 public:
  // A model that is a part of this one: hooks on its modules are its own, whichever of the two they were put on by, and
  // fire in forwards of both. It is locked together with this one.
  struct Part {
    std::string name;
    std::shared_ptr<Model> model;
  };

  // `module` has to be a NativeModule.
  explicit Model(std::shared_ptr<torch::nn::Module> module, std::vector<Part> parts = {});
  // Takes the hooks along that were put on its parts through it.
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const std::shared_ptr<torch::nn::Module>& module() const { return module_; }
  NativeModule& native() const { return *native_; }

  c10::IValue run(const std::vector<at::Tensor>& inputs, const NamedArguments& named, const ModelRun& options);
  ModelCapture capture(const std::vector<at::Tensor>& inputs, const NamedArguments& named, const ModelRun& options,
                       CaptureOptions capture);

  // `exchange` is told what puts the moved parameters in place of the old ones, at once for all of them, and runs it
  // where nobody looks at them.
  using Exchange = std::function<void(const std::function<void()>&)>;
  void to(c10::Device device, const Exchange& exchange);
  // Copies values into parameters of these names, whose shapes they have to have.
  void load(const std::vector<std::pair<std::string, at::Tensor>>& values);

  // Training mode, of runs that are asked for afterwards. All three on one thread.
  void train(bool mode);
  bool trains() const { return module_->is_training(); }
  std::shared_ptr<const Modes> modes() const;

  // Throws ERR_UNKNOWN_MODULE for a module that isn't there.
  void addHook(const std::string& module, HookPtr hook);
  void removeHook(const std::string& module, const HookPtr& hook);

  // What is going on with this module; what `beginActivity` begins is going on with its parts as well.
  const std::shared_ptr<Activity>& activity() const { return activity_; }
  std::shared_ptr<const void> beginActivity() const;

 private:
  void collectMutexes(std::vector<std::shared_mutex*>& mutexes) const;
  // The part that a module belongs to, and the module's name there; none for one of this model's own.
  std::pair<const Part*, std::string> partOf(const std::string& module) const;
  template <typename Lock>
  std::vector<Lock> lock() const;
  std::shared_ptr<const HookSet> allHooks() const;
  void checkDevices(const std::vector<at::Tensor>& inputs, const NamedArguments& named, const ModelRun& options) const;
  c10::IValue runLocked(const std::vector<at::Tensor>& inputs, const NamedArguments& named, const ModelRun& options,
                        const std::shared_ptr<const HookSet>& hooks);

  const std::shared_ptr<torch::nn::Module> module_;
  NativeModule* const native_;
  const std::vector<Part> parts_;
  const at::Tensor someParameter_;      // is where the module is
  mutable std::shared_mutex changing_;  // runs share it, changes of parameters exclude them
  const std::shared_ptr<Activity> activity_ = std::make_shared<Activity>();
  mutable std::shared_ptr<const Modes> modes_;  // as of `modesEpoch_`
  mutable uint64_t modesEpoch_ = 0;
  HookRegistry hooks_;  // on modules of its own
  std::mutex lending_;
  std::vector<std::pair<std::string, std::weak_ptr<Hook>>> onParts_;  // those that it put on modules of its parts
};

}  // namespace lta::nn
