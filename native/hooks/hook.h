// The interface of a hook. Knows no JavaScript: native/node implements one that calls a function.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type_base.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/cancellation.h"

namespace lta {

// A module call as hooks see it, or a node of a graph, whose type is its operator.
struct ModuleCall {
  std::string module;  // dotted name
  std::string type;    // class name
  std::vector<c10::TypePtr> inputTypes;
  c10::TypePtr outputType;
};

enum class HookKind { Pre, Forward, Backward, Node };

// One registered hook. Once removed it never fires again, not even in a run that is in flight.
class Hook {
 public:
  explicit Hook(HookKind kind) : kind_(kind) {}
  virtual ~Hook() = default;
  Hook(const Hook&) = delete;
  Hook& operator=(const Hook&) = delete;

  HookKind kind() const { return kind_; }
  void remove() { removed_ = true; }
  bool removed() const { return removed_; }
  // How often it has fired.
  int64_t calls() const { return calls_; }
  void count() { ++calls_; }
  // Whether a run has reached it. A backward hook fires later, in the backward pass of that run.
  bool reached() const { return reached_ || calls_ > 0; }
  void reach() { reached_ = true; }

  // Before a module: returns replacement inputs, or none to keep them.
  virtual std::optional<std::vector<c10::IValue>> onInputs(const ModuleCall& call,
                                                           const std::vector<c10::IValue>& inputs,
                                                           const CancellationPtr& cancellation) {
    return std::nullopt;
  }
  // After a module, or a node of a graph (without inputs): returns a replacement output, or none to keep it.
  virtual std::optional<c10::IValue> onOutput(const ModuleCall& call, const std::vector<c10::IValue>& inputs,
                                              const c10::IValue& output, const CancellationPtr& cancellation) {
    return std::nullopt;
  }
  // When the gradients of a module's inputs are known: returns replacements, or none to keep them. Undefined tensors
  // stand for missing gradients.
  virtual std::optional<std::vector<at::Tensor>> onGradients(const ModuleCall& call,
                                                             const std::vector<at::Tensor>& gradInputs,
                                                             const std::vector<at::Tensor>& gradOutputs) {
    return std::nullopt;
  }

 private:
  const HookKind kind_;
  std::atomic<bool> removed_{false};
  std::atomic<int64_t> calls_{0};
  std::atomic<bool> reached_{false};
};

using HookPtr = std::shared_ptr<Hook>;

}  // namespace lta
