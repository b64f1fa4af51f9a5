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

// Carries what a module's input side knows to its output side: the state of its backward hooks.
class BackwardState;

// One run of a model with hooks, or one that can be cancelled at module boundaries, on all threads that work for it.
class HookRun : public RunLocal {
 public:
  // `calls` are the module calls that operators in a graph refer to by number: none for a model that has no graph.
  HookRun(std::shared_ptr<const HookSet> hooks, CancellationPtr cancellation,
          std::shared_ptr<const std::vector<ModuleCall>> calls = nullptr)
      : hooks_(std::move(hooks)), cancellation_(std::move(cancellation)), calls_(std::move(calls)) {}

  // The run that the calling thread takes part in; none outside.
  static HookRun* current();

  // Whether hooks may be called, and not only a cancellation looked for.
  bool hasHooks() const { return hooks_ != nullptr; }

  // Layers, by number, that may not take their fused fast path in this run. To be told before it begins; without it all
  // may.
  void forbidFusing(std::vector<bool> layers) { unfused_ = std::move(layers); }
  bool mayFuse(int64_t layer) const {
    return static_cast<size_t>(layer) >= unfused_.size() || !unfused_[static_cast<size_t>(layer)];
  }

  const ModuleCall& call(int64_t number) const { return calls_->at(static_cast<size_t>(number)); }

  // The two sides of a module call. `enter` gives the inputs to continue with, and a state that belongs to `leave`.
  std::vector<c10::IValue> enter(const ModuleCall& call, std::vector<c10::IValue> inputs,
                                 c10::intrusive_ptr<BackwardState>& state);
  c10::IValue leave(const ModuleCall& call, const std::vector<c10::IValue>& inputs,
                    const c10::intrusive_ptr<BackwardState>& state, c10::IValue output);

  // What a hook threw into the run, if one did: the interpreter makes other exceptions of what passes it.
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

// While one lives, the calling thread takes part in a run.
class HookScope {
 public:
  explicit HookScope(std::shared_ptr<HookRun> run);

 private:
  RunLocalScope info_;
};

}  // namespace lta
