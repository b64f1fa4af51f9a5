// How native modules call each other: names, hooks and modes of the calling thread's run.
#pragma once

#include <ATen/core/ivalue.h>
#include <c10/util/FunctionRef.h>
#include <torch/nn/module.h>

#include <string>
#include <unordered_set>
#include <vector>

#include "hooks/hook_registry.h"

namespace lta::nn {

// The class name in Python: "TransformerEncoderLayer".
std::string typeName(const torch::nn::Module& module);

// The modules in training mode.
using Modes = std::unordered_set<const torch::nn::Module*>;

// While one lives, the thread runs a model with these hooks (null: none). `needWeights` makes its attentions return
// weights, whatever their own flag; `modes` overrides the modules' modes (null: current ones).
class ModelScope {
 public:
  explicit ModelScope(const HookSet* hooks, bool needWeights = false, const Modes* modes = nullptr);
  ~ModelScope();
  ModelScope(const ModelScope&) = delete;
  ModelScope& operator=(const ModelScope&) = delete;

 private:
  const HookSet* const outerHooks_;
  const bool outerNeedsWeights_;
  const Modes* const outerModes_;
  std::vector<const std::string*> outerPath_;  // a hook on this thread may run another model
};

// Whether a module is in training mode in the current run, as of the run's request.
bool trains(const torch::nn::Module& module);

// Whether the current run requests the weights of its attentions.
bool runNeedsWeights();

// Dotted name of the innermost module the thread is in; empty for the root.
std::string currentModule();

// Whether the current module or one below it has a pre or forward hook. Fused paths don't call the modules below, so
// they are taken only without one.
bool forwardIsHooked();

// The only way a module calls another: maintains the path of names (`name` as registered, "layers.0" in a list) and
// fires hooks. `body` gets the inputs, possibly replaced by hooks.
using ModuleBody = c10::function_ref<c10::IValue(const std::vector<c10::IValue>&)>;
c10::IValue callModule(const std::string& name, const torch::nn::Module& module, std::vector<c10::IValue> inputs,
                       ModuleBody body);

}  // namespace lta::nn
