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

// Where kernels for the operators of a namespace ("_" for fallbacks of all) are registered under a key. They stay for
// good: threads may run models while the process ends.
torch::Library& kernelsUnder(c10::DispatchKey key, const char* operatorNamespace);

// A kernel for any operator, on the arguments that are on top of a stack.
using BoxedKernel = void(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

// Goes on with an operator below `key`, from a boxed kernel under that.
inline void redispatchBelow(c10::DispatchKey key, const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                            torch::jit::Stack* stack) {
  op.redispatchBoxed(keysBelow(key, keys), stack);
}

void registerKernel(const c10::OperatorName& name, c10::DispatchKey key, c10::KernelFunction kernel);

// Registers a boxed kernel for one operator, for good.
template <BoxedKernel* kernel>
void registerBoxedKernel(const c10::OperatorName& name, c10::DispatchKey key) {
  registerKernel(name, key, c10::KernelFunction::makeFromBoxedFunction<kernel>());
}

// Tells of each operator of the process once: of those that there are, and later of those that were registered since.
class OperatorWatcher {
 public:
  using Tell = void (*)(const c10::OperatorHandle& op);
  // Never to be destroyed: the dispatcher keeps a listener.
  explicit OperatorWatcher(Tell tell);
  // Where nothing is new, this costs the look at a flag.
  void tellOfNew();

 private:
  class Listener;
  const Tell tell_;
  std::atomic<bool> anyNew_{true};
  std::mutex mutex_;
  std::unordered_set<c10::OperatorName> told_;
};

}  // namespace lta
