// Fires hooks at the module calls of one run. Knows neither TorchScript nor JavaScript.
#pragma once

#include <ATen/core/ivalue.h>

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hooks/hook_registry.h"
#include "runtime/cancellation.h"
#include "runtime/first_failure.h"
#include "torch/run_local.h"

namespace lta {

// The state of a call's backward hooks, passed from its input side to its output side.
class BackwardState;

// One run with hooks, or one that can be cancelled at module boundaries, on all its threads.
class HookRun : public RunLocal {
 public:
  // `calls`: the module calls that a graph's operators refer to by index; null for a model without a graph.
  HookRun(std::shared_ptr<const HookSet> hooks, CancellationPtr cancellation,
          std::shared_ptr<const std::vector<ModuleCall>> calls = nullptr)
      : hooks_(std::move(hooks)), cancellation_(std::move(cancellation)), calls_(std::move(calls)) {}

  // The run that the calling thread works for; null outside of runs.
  static HookRun* current();

  // Whether there are hooks to fire, not only a cancellation to check.
  bool hasHooks() const { return hooks_ != nullptr; }

  // Layers, by index, that must not take their fused fast path in this run; by default all may. To be called before the
  // run begins.
  void forbidFusing(std::vector<bool> layers) { unfused_ = std::move(layers); }
  bool mayFuse(int64_t layer) const {
    return static_cast<size_t>(layer) >= unfused_.size() || !unfused_[static_cast<size_t>(layer)];
  }

  const ModuleCall& call(int64_t number) const { return calls_->at(static_cast<size_t>(number)); }

  // The two sides of a module call. `enter` returns the inputs to use, and a state to pass to `leave`.
  std::vector<c10::IValue> enter(const ModuleCall& call, std::vector<c10::IValue> inputs,
                                 c10::intrusive_ptr<BackwardState>& state);
  c10::IValue leave(const ModuleCall& call, const std::vector<c10::IValue>& inputs,
                    const c10::intrusive_ptr<BackwardState>& state, c10::IValue output);

  // Passes the value of a node to the hooks at a place.
  c10::IValue value(const std::string& place, const ModuleCall& node, c10::IValue output);

  // The first exception of a hook, if any: the interpreter replaces exceptions that propagate through it.
  std::exception_ptr failure() const { return failure_.get(); }

 private:
  friend class HookScope;
  const std::vector<HookPtr>* hooksOf(const std::string& module) const;

  const std::shared_ptr<const HookSet> hooks_;
  const CancellationPtr cancellation_;
  const std::shared_ptr<const std::vector<ModuleCall>> calls_;
  std::vector<bool> unfused_;
  FirstFailure failure_;
};

// While one lives, the calling thread works for a run.
class HookScope {
 public:
  explicit HookScope(std::shared_ptr<HookRun> run);

 private:
  RunLocalScope info_;
};

}  // namespace lta
