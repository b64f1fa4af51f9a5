// Registration of kernels with c10::Dispatcher, and redispatch from boxed kernels. Knows no particular operator.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <atomic>
#include <mutex>
#include <unordered_set>

#include "torch/dispatch_keys.h"

namespace lta {

// Makes this addon the owner of a namespace of operators, for good. Throws c10::Error if it has one; `file` is what the
// error of the next claimant then names.
void claimNamespace(const char* operatorNamespace, const char* file);

// Where operators of a claimed namespace are defined, with kernels for all keys. They stay for good.
torch::Library& operatorsOf(const char* operatorNamespace);

// Where kernels for the operators of a namespace ("_" for fallbacks of all) are registered under a key. They stay for
// good: threads may run models while the process ends.
torch::Library& kernelsUnder(c10::DispatchKey key, const char* operatorNamespace);

// A kernel for any schema: its arguments are on top of the stack.
using BoxedKernel = void(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// Redispatches below `key`, from a boxed kernel under it.
inline void redispatchBelow(c10::DispatchKey key, const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                            torch::jit::Stack* stack) {
  op.redispatchBoxed(keysBelow(key, keys), stack);
}

void registerKernel(const c10::OperatorName& name, c10::DispatchKey key, c10::KernelFunction kernel);

// Registers a boxed kernel for one operator, permanently.
template <BoxedKernel* kernel>
void registerBoxedKernel(const c10::OperatorName& name, c10::DispatchKey key) {
  registerKernel(name, key, c10::KernelFunction::makeFromBoxedFunction<kernel>());
}

// Visits each operator of the process once: those registered already, then those registered since.
class OperatorWatcher {
 public:
  using Visit = void (*)(const c10::OperatorHandle& op);
  // Must never be destroyed: the dispatcher keeps a listener that refers to it.
  explicit OperatorWatcher(Visit visit);
  // Costs one atomic load if nothing is new.
  void visitNew();

 private:
  class Listener;
  const Visit visit_;
  std::atomic<bool> anyNew_{true};
  std::mutex mutex_;
  std::unordered_set<c10::OperatorName> visited_;
};

}  // namespace lta
