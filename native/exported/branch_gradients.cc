#include "exported/branch_gradients.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace lta::exported {
namespace {

namespace autograd = torch::autograd;
using c10::IValue;

constexpr const char* kZeros = "zeros";

// Its results are copies, so that others may write to them.
struct Reach : autograd::Function<Reach> {
  static autograd::variable_list forward(autograd::AutogradContext* context, at::TensorList outputs,
                                         at::TensorList operands) {
    c10::List<at::Tensor> zeros;
    for (const auto& operand : operands) zeros.push_back(at::zeros({}, operand.options()).expand(operand.sizes()));
    context->saved_data[kZeros] = std::move(zeros);
    autograd::variable_list copies;
    for (const auto& output : outputs) copies.push_back(output.clone());
    return copies;
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list gradients) {
    for (const at::Tensor& each : context->saved_data[kZeros].toTensorVector()) gradients.push_back(each);
    return gradients;
  }
};

template <typename Test>
std::vector<size_t> placesOf(const std::vector<IValue>& values, Test test) {
  std::vector<size_t> places;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].isTensor() && values[i].toTensor().defined() && test(values[i].toTensor())) places.push_back(i);
  }
  return places;
}

std::vector<at::Tensor> tensorsAt(const std::vector<IValue>& values, const std::vector<size_t>& places) {
  std::vector<at::Tensor> tensors;
  for (const size_t place : places) tensors.push_back(values[place].toTensor());
  return tensors;
}

}  // namespace

void reachOperands(std::vector<IValue>& outputs, const std::vector<IValue>& operands) {
  if (!c10::GradMode::is_enabled()) return;
  const auto given = placesOf(operands, [](const at::Tensor& each) { return each.requires_grad(); });
  const auto made = placesOf(outputs, [](const at::Tensor& each) {
    return at::isFloatingType(each.scalar_type()) || at::isComplexType(each.scalar_type());
  });
  if (given.empty() || made.empty()) return;
  const auto tensors = tensorsAt(outputs, made), reached = tensorsAt(operands, given);
  auto results = Reach::apply(at::TensorList(tensors), at::TensorList(reached));
  for (size_t i = 0; i < made.size(); ++i) outputs[made[i]] = std::move(results[i]);
}

}  // namespace lta::exported
