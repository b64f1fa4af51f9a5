#include "hooks/backward_state.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "runtime/error.h"

namespace lta {
namespace {

namespace autograd = torch::autograd;

constexpr const char* kState = "state";

c10::IValue capsule(const c10::intrusive_ptr<BackwardState>& state) { return c10::IValue::make_capsule(state); }

c10::intrusive_ptr<BackwardState> stateOf(autograd::AutogradContext& context) {
  return c10::static_intrusive_pointer_cast<BackwardState>(context.saved_data[kState].toCapsule());
}

// The identity on the tensors of one side of a module call; its backward notifies the state.
template <bool kOutputs>
struct Watch : autograd::Function<Watch<kOutputs>> {
  // A TensorList, since apply would take a vector for a non-differentiable argument.
  static autograd::variable_list forward(autograd::AutogradContext* context, at::TensorList tensors,
                                         const c10::IValue& state) {
    context->saved_data[kState] = state;
    // Hooks see which outputs had no part in the loss; gradients of inputs are materialized as zeros, as in Python.
    if constexpr (kOutputs) context->set_materialize_grads(false);
    autograd::variable_list constant;
    for (const auto& tensor : tensors) {
      if (!tensor.requires_grad()) constant.push_back(tensor);
    }
    context->mark_non_differentiable(constant);
    return tensors.vec();
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list gradients) {
    const auto state = stateOf(*context);
    if constexpr (kOutputs) {
      state->outputsArrived(gradients);
      state->fillOutputs(gradients);
    } else {
      gradients = state->inputsArrived(std::move(gradients));
    }
    gradients.emplace_back();  // the state has no gradient
    return gradients;
  }
};

std::vector<at::Tensor> scatter(std::vector<at::Tensor> gradients, const std::vector<size_t>& indices, size_t count) {
  std::vector<at::Tensor> all(count);
  for (size_t i = 0; i < indices.size(); ++i) all[indices[i]] = std::move(gradients[i]);
  return all;
}

}  // namespace

void BackwardState::watchInputs(std::vector<c10::IValue>& inputs) {
  inputCount_ = inputs.size();
  autograd::variable_list tensors;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].isTensor() || !inputs[i].toTensor().defined()) continue;
    inputsRequireGrad_ = inputsRequireGrad_ || inputs[i].toTensor().requires_grad();
    tensors.push_back(inputs[i].toTensor());
    inputIndices_.push_back(i);
  }
  if (!inputsRequireGrad_) return;
  const auto self = c10::intrusive_ptr<BackwardState>::reclaim_copy(this);
  const auto watched = Watch<false>::apply(at::TensorList(tensors), capsule(self));
  for (size_t i = 0; i < inputIndices_.size(); ++i) inputs[inputIndices_[i]] = watched[i];
}

void BackwardState::watchOutput(c10::IValue& output) {
  // As in Python: a tensor, or the tensors of a tuple; nothing deeper.
  std::vector<c10::IValue> elements{output};
  const bool isTuple = output.isTuple();
  if (isTuple) elements = output.toTupleRef().elements().vec();
  outputCount_ = elements.size();
  autograd::variable_list tensors;
  bool anyRequiresGrad = false;
  for (size_t i = 0; i < elements.size(); ++i) {
    if (!elements[i].isTensor() || !elements[i].toTensor().defined()) continue;
    anyRequiresGrad = anyRequiresGrad || elements[i].toTensor().requires_grad();
    tensors.push_back(elements[i].toTensor());
    outputIndices_.push_back(i);
    outputShapes_.emplace_back(elements[i].toTensor());
  }
  if (!anyRequiresGrad) return;
  const auto self = c10::intrusive_ptr<BackwardState>::reclaim_copy(this);
  const auto watched = Watch<true>::apply(at::TensorList(tensors), capsule(self));
  for (size_t i = 0; i < outputIndices_.size(); ++i) elements[outputIndices_[i]] = watched[i];
  if (!isTuple) {
    output = elements[0];
  } else if (const auto type = output.toTuple()->type(); type->schema()) {
    output = c10::ivalue::Tuple::createNamed(std::move(elements), type);
  } else {
    output = c10::ivalue::Tuple::create(std::move(elements));
  }
}

void BackwardState::fillOutputs(std::vector<at::Tensor>& gradients) const {
  for (size_t i = 0; i < outputShapes_.size(); ++i) {
    if (!gradients[i].defined() && outputShapes_[i].differentiable) gradients[i] = outputShapes_[i].zeros();
  }
}

void BackwardState::outputsArrived(std::vector<at::Tensor> gradients) {
  gradOutputs_ = scatter(std::move(gradients), outputIndices_, outputCount_);
  outputsArrived_ = true;
  if (inputsRequireGrad_) return;
  const auto replaced = runHooks(std::vector<at::Tensor>(inputCount_));
  if (std::any_of(replaced.begin(), replaced.end(), [](const at::Tensor& each) { return each.defined(); })) {
    throw Error("ERR_HOOK_FAILED", "Expected no input gradients from the backward hook on '" + call_.module +
                                       "', none of whose inputs requires grad, but received some");
  }
}

std::vector<at::Tensor> BackwardState::inputsArrived(std::vector<at::Tensor> gradients) {
  // As in Python, gradients that reach the inputs without passing the output (where that is neither a tensor nor a
  // tuple of tensors) aren't shown.
  if (!outputsArrived_) return gradients;
  const auto all = runHooks(scatter(std::move(gradients), inputIndices_, inputCount_));
  std::vector<at::Tensor> watched;
  for (const auto index : inputIndices_) watched.push_back(all[index]);
  gradOutputs_.clear();
  outputsArrived_ = false;
  return watched;
}

std::vector<at::Tensor> BackwardState::runHooks(std::vector<at::Tensor> gradInputs) {
  const c10::NoGradGuard noGrad;
  for (const auto& hook : hooks_) {
    if (hook->removed()) continue;
    hook->count();
    auto replaced = hook->onGradients(call_, gradInputs, gradOutputs_);
    if (!replaced) continue;
    if (replaced->size() != gradInputs.size()) {
      throw Error("ERR_HOOK_FAILED", "Expected " + std::to_string(gradInputs.size()) +
                                         " input gradients from the backward hook on '" + call_.module +
                                         "' but received " + std::to_string(replaced->size()));
    }
    gradInputs = std::move(*replaced);
  }
  return gradInputs;
}

}  // namespace lta
