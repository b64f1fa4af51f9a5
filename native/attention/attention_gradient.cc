#include "attention/attention_gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace lta {
namespace {

namespace autograd = torch::autograd;

// Identity that makes its result take part in gradients by way of a second input that does.
struct TakingPart : autograd::Function<TakingPart> {
  static at::Tensor forward(autograd::AutogradContext*, const at::Tensor& tensor, const at::Tensor&) { return tensor; }
  static autograd::variable_list backward(autograd::AutogradContext*, autograd::variable_list gradients) {
    return {gradients[0], at::Tensor()};
  }
};

// [.., H, L, D] as [B, H, L, D].
at::Tensor asFourDimensions(const at::Tensor& tensor, int64_t heads) {
  if (tensor.dim() == 3) return tensor.unflatten(0, {tensor.size(0) / heads, heads});
  if (tensor.dim() == 2) return tensor.unsqueeze(0).unsqueeze(0);
  return tensor.dim() > 4 ? tensor.flatten(1, -3) : tensor;
}

}  // namespace

at::Tensor takingPart(const at::Tensor& tensor) {
  if (tensor.requires_grad()) return tensor;
  return TakingPart::apply(tensor, at::empty({0}, tensor.options()).requires_grad_());
}

at::Tensor weightsGradient(const SdpaArguments& call, const at::Tensor& value, const at::Tensor& gradient,
                           const Rows& rows) {
  const auto type = call.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto heads = call.query.dim() > 2 ? call.query.size(1) : 1;
  auto g = asFourDimensions(gradient, heads);
  auto v = asFourDimensions(value.detach(), heads);
  if (v.size(1) != g.size(1) && v.size(1) != 0) v = v.repeat_interleave(g.size(1) / v.size(1), 1);
  g = selectRows(g, rows).to(type);
  v = selectRows(v, {rows.heads, std::nullopt}).to(type);
  return at::matmul(g, v.transpose(-2, -1));
}

std::vector<at::Tensor> gradientsOf(const at::Tensor& scalar, const std::vector<GradientPoint>& points,
                                    const CancellationPtr& cancellation) {
  autograd::variable_list tensors;
  for (const auto& point : points) {
    tensors.push_back(point.tensor);
    if (cancellation) point.tensor.register_hook([cancellation](const at::Tensor&) { cancellation->check(); });
  }
  const auto gradients = autograd::grad({scalar}, tensors, /*grad_outputs=*/{}, /*retain_graph=*/std::nullopt,
                                        /*create_graph=*/false, /*allow_unused=*/true);
  const c10::NoGradGuard noGrad;
  std::vector<at::Tensor> ofWeights;
  for (size_t i = 0; i < points.size(); ++i) {
    ofWeights.push_back(points[i].toWeights(gradients[i].defined() ? gradients[i] : at::zeros_like(tensors[i])));
  }
  return ofWeights;
}

}  // namespace lta
