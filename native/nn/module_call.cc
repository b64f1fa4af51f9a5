#include "nn/module_call.h"

#include <ATen/core/jit_type.h>

#include "hooks/backward_state.h"
#include "hooks/hook_run.h"

namespace lta::nn {
namespace {

thread_local std::vector<const std::string*> path;
thread_local const HookSet* modelHooks = nullptr;
thread_local bool modelNeedsWeights = false;
thread_local const Modes* modelModes = nullptr;

class NameScope {
 public:
  explicit NameScope(const std::string& name) { path.push_back(&name); }
  ~NameScope() { path.pop_back(); }
  NameScope(const NameScope&) = delete;
  NameScope& operator=(const NameScope&) = delete;
};

// The type a hook's replacement must have: a tensor, or output and weights of an attention.
c10::TypePtr outputType(const c10::IValue& output) {
  if (!output.isTuple()) return c10::TensorType::get();
  static const auto kAttention =
      c10::TupleType::create({c10::TensorType::get(), c10::OptionalType::create(c10::TensorType::get())});
  return kAttention;
}

}  // namespace

std::string typeName(const torch::nn::Module& module) {
  std::string name = module.name();
  if (const auto colon = name.rfind(':'); colon != std::string::npos) name.erase(0, colon + 1);
  if (name.size() > 4 && name.ends_with("Impl")) name.erase(name.size() - 4);
  return name;
}

ModelScope::ModelScope(const HookSet* hooks, bool needWeights, const Modes* modes)
    : outerHooks_(std::exchange(modelHooks, hooks)),
      outerNeedsWeights_(std::exchange(modelNeedsWeights, needWeights)),
      outerModes_(std::exchange(modelModes, modes)),
      outerPath_(std::exchange(path, {})) {}
ModelScope::~ModelScope() {
  modelHooks = outerHooks_;
  modelNeedsWeights = outerNeedsWeights_;
  modelModes = outerModes_;
  path = std::move(outerPath_);
}

bool trains(const torch::nn::Module& module) {
  return modelModes ? modelModes->contains(&module) : module.is_training();
}

bool runNeedsWeights() { return modelNeedsWeights; }

std::string currentModule() {
  std::string joined;
  for (const auto* name : path) {
    if (name->empty()) continue;
    if (!joined.empty()) joined += '.';
    joined += *name;
  }
  return joined;
}

bool forwardIsHooked() {
  if (!modelHooks) return false;
  const auto here = currentModule();
  for (const auto& [module, hooks] : *modelHooks) {
    if (!here.empty() && module != here && module.rfind(here + ".", 0) != 0) continue;
    for (const auto& hook : hooks) {
      if (hook->kind() != HookKind::Backward && !hook->removed()) return true;
    }
  }
  return false;
}

c10::IValue callModule(const std::string& name, const torch::nn::Module& module, std::vector<c10::IValue> inputs,
                       ModuleBody body) {
  const NameScope scope(name);
  auto* run = HookRun::current();
  if (!run) return body(inputs);
  ModuleCall call{currentModule(), typeName(module), std::vector<c10::TypePtr>(inputs.size(), c10::TensorType::get()),
                  nullptr};
  c10::intrusive_ptr<BackwardState> state;
  inputs = run->enter(call, std::move(inputs), state);
  auto output = body(inputs);
  call.outputType = outputType(output);
  return run->leave(call, inputs, state, std::move(output));
}

}  // namespace lta::nn
