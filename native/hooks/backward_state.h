// Backward hooks of one module call. Knows no JavaScript: hooks are called through Hook.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <memory>
#include <vector>

#include "hooks/hook.h"

namespace lta {

// Tensors that require grad pass through identity functions at the inputs and at the output, as for Python's full
// backward hooks, so that the call's gradients are complete when hooks fire: first those of the outputs, then those of
// the inputs.
class BackwardState : public torch::CustomClassHolder {
 public:
  BackwardState(ModuleCall call, std::vector<HookPtr> hooks) : call_(std::move(call)), hooks_(std::move(hooks)) {}

  void watchInputs(std::vector<c10::IValue>& inputs);
  void watchOutput(c10::IValue& output);

  // Called in the backward of the identities.
  void outputsArrived(std::vector<at::Tensor> gradients);
  std::vector<at::Tensor> inputsArrived(std::vector<at::Tensor> gradients);
  // Replaces missing gradients of outputs by zeros, for the backward below the identity.
  void fillOutputs(std::vector<at::Tensor>& gradients) const;

 private:
  // Makes zeros like an output.
  struct Shape {
    explicit Shape(const at::Tensor& tensor)
        : sizes(tensor.sizes().vec()), options(tensor.options()), differentiable(tensor.requires_grad()) {}
    at::Tensor zeros() const { return at::zeros(sizes, options); }
    std::vector<int64_t> sizes;
    at::TensorOptions options;
    bool differentiable;
  };

  std::vector<at::Tensor> runHooks(std::vector<at::Tensor> gradInputs);

  const ModuleCall call_;
  const std::vector<HookPtr> hooks_;
  size_t inputCount_ = 0;
  size_t outputCount_ = 0;
  std::vector<size_t> inputIndices_;   // of the inputs that pass the identity
  std::vector<size_t> outputIndices_;  // of the output's elements that do
  std::vector<Shape> outputShapes_;    // of those elements
  bool inputsRequireGrad_ = false;
  bool outputsArrived_ = false;
  std::vector<at::Tensor> gradOutputs_;
};

}  // namespace lta
