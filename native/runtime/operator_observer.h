#pragma once

#include <ATen/core/stack.h>

namespace c10 {
class OperatorHandle;
}

namespace lta {

// Is told of the operators that a run calls, on whichever of its threads (see RunScope). Operators that another one is
// made of aren't among them, nor what is computed beside the model.
class OperatorObserver {
 public:
  virtual ~OperatorObserver() = default;
  // An operator has run; its results are the last values of `stack`. What this throws ends the run.
  virtual void onOperator(const c10::OperatorHandle& op, const torch::jit::Stack& stack) = 0;
};

}  // namespace lta
