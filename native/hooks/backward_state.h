#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <memory>
#include <vector>

#include "hooks/hook.h"

namespace lta {

// The backward hooks of one module call. Inputs and outputs that require grad pass through an identity, as
// Python's full backward hooks do it, so that all gradients of the call arrive together: those of the outputs first,
// those of the inputs when they are complete.
class BackwardState : public torch::CustomClassHolder {
 public:
  BackwardState(ModuleCall call, std::vector<HookPtr> hooks) : call_(std::move(call)), hooks_(std::move(hooks)) {}

  void watchInputs(std::vector<c10::IValue>& inputs);
  void watchOutput(c10::IValue& output);

  // Called by the identities.
  void outputsArrived(std::vector<at::Tensor> gradients);
  std::vector<at::Tensor> inputsArrived(std::vector<at::Tensor> gradients);
  // Zeros for the outputs that have no gradient, for what lies below the identity.
  void fillOutputs(std::vector<at::Tensor>& gradients) const;

 private:
  // What zeros of an output's gradient are like.
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
  std::vector<size_t> inputPlaces_;   // which inputs are tensors that pass the identity
  std::vector<size_t> outputPlaces_;  // which elements of the output are
  std::vector<Shape> outputShapes_;   // of those
  bool inputsRequireGrad_ = false;
  bool outputsArrived_ = false;
  std::vector<at::Tensor> gradOutputs_;
};

}  // namespace lta
