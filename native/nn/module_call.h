#pragma once

#include <ATen/core/ivalue.h>
#include <c10/util/FunctionRef.h>
#include <torch/nn/module.h>

#include <string>
#include <unordered_set>
#include <vector>

#include "hooks/hook_registry.h"

namespace lta::nn {

// The class name of a module as Python has it: "TransformerEncoderLayer".
std::string typeName(const torch::nn::Module& module);

// The modules in training mode.
using Modes = std::unordered_set<const torch::nn::Module*>;

// While one lives, its thread runs a model whose hooks these are (none: null). With `needWeights` its attentions return
// their weights, whatever their own flag says; `modes` are those of its modules (null: as they are now).
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
};

// Whether a module is in training mode in the run that the calling thread takes part in: as it was when that was begun.
bool trains(const torch::nn::Module& module);

// Whether the run that the calling thread takes part in asks for the weights of its attentions.
bool runNeedsWeights();

// Dotted name of the innermost module that the calling thread is in; empty for the model itself.
std::string currentModule();

// Whether the module that the calling thread is in, or one below it, has a hook on its forward. Fused paths skip the
// calls of the modules that they are made of, so they are taken only where nobody waits for those.
bool forwardIsHooked();

// The one way in which a module calls another: `name` as it is registered there ("layers.0" where that is in a list),
// so that hooks, cancellation and the names of attentions know where they are. `body` gets the inputs, which hooks may
// have replaced.
using ModuleBody = c10::function_ref<c10::IValue(const std::vector<c10::IValue>&)>;
c10::IValue callModule(const std::string& name, const torch::nn::Module& module, std::vector<c10::IValue> inputs,
                       ModuleBody body);

}  // namespace lta::nn
