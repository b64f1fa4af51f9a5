#include "capture/attention_gradient.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "torch/own_computation.h"
#include "torch/storage.h"

namespace lta {
namespace {

namespace autograd = torch::autograd;

// Identity whose result requires grad, by way of a second input that does. The result is an alias that
// isn't a view: what is written into one of the two is no part of the other's history.
struct RequireGrad : autograd::Function<RequireGrad> {
  static at::Tensor forward(autograd::AutogradContext*, const at::Tensor& tensor, const at::Tensor&) {
    return aliasOf(tensor);
  }
  static autograd::variable_list backward(autograd::AutogradContext*, autograd::variable_list gradients) {
    return {gradients[0], at::Tensor()};
  }
};

// The softmax of scaled dot products, by a kernel that autograd doesn't know: dS = W ∘ (dW − Σ dW ∘ W).
struct DifferentiableWeights : autograd::Function<DifferentiableWeights> {
  static at::Tensor forward(autograd::AutogradContext* context, const at::Tensor& query, const at::Tensor& key,
                            const std::optional<at::Tensor>& mask, bool causal, double scale) {
    auto weights = computeWeights({query, key, mask, causal, scale, false}, {}).weights;
    context->save_for_backward({query, key, weights});
    context->saved_data["scale"] = scale;
    if (mask) context->saved_data["mask"] = mask->sizes().vec();
    return weights;
  }

  static autograd::variable_list backward(autograd::AutogradContext* context, autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &query = saved[0], &key = saved[1], &weights = saved[2];
    const auto scale = context->saved_data["scale"].toDouble();
    const auto& gradient = gradients[0];
    const auto scores = weights * (gradient - (gradient * weights).sum(-1, /*keepdim=*/true));
    autograd::variable_list given(5);
    if (context->needs_input_grad(0)) given[0] = (at::matmul(scores, key) * scale).to(query.scalar_type());
    if (context->needs_input_grad(1)) {
      given[1] = (at::matmul(scores.transpose(-2, -1), query) * scale).to(key.scalar_type());
    }
    if (context->saved_data.count("mask") != 0 && context->needs_input_grad(2)) {
      given[2] = at::sum_to(scores, at::IntArrayRef(context->saved_data["mask"].toIntVector()));
    }
    return given;
  }
};

// [.., H, L, D] as [B, H, L, D].
at::Tensor asFourDimensions(const at::Tensor& tensor, int64_t batch, int64_t heads) {
  if (tensor.dim() == 3) return tensor.unflatten(0, {batch, heads});
  if (tensor.dim() == 2) return tensor.unsqueeze(0).unsqueeze(0);
  return tensor.dim() > 4 ? tensor.flatten(0, -4) : tensor;
}

}  // namespace

at::Tensor differentiableWeights(const SdpaArguments& call) {
  const bool maskRequiresGrad = call.mask && call.mask->requires_grad();
  if (!c10::GradMode::is_enabled() || !(call.query.requires_grad() || call.key.requires_grad() || maskRequiresGrad)) {
    const c10::NoGradGuard noGrad;
    return computeWeights(call, {}).weights;
  }
  TORCH_INTERNAL_ASSERT(!call.groupedQuery, "weights of grouped queries have no gradients");
  const auto scale = call.scale.value_or(1 / std::sqrt(static_cast<double>(call.query.size(-1))));
  return DifferentiableWeights::apply(call.query, call.key, call.mask, call.causal, scale);
}

at::Tensor requireGrad(const at::Tensor& tensor) {
  return RequireGrad::apply(tensor, at::empty({0}, tensor.options()).requires_grad_());
}

at::Tensor weightsGradient(const SdpaArguments& call, const at::Tensor& value, const at::Tensor& gradient,
                           const Rows& rows) {
  const auto type = call.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto batch = call.query.dim() > 2 ? call.query.size(0) : 1;
  const auto heads = call.query.dim() > 2 ? call.query.size(1) : 1;
  auto g = asFourDimensions(gradient, batch, heads);
  auto v = asFourDimensions(value.detach(), batch, heads);
  if (v.size(1) != g.size(1) && v.size(1) != 0) v = v.repeat_interleave(g.size(1) / v.size(1), 1);
  g = selectRows(g, rows).to(type);
  v = selectRows(v, {rows.heads, std::nullopt}).to(type);
  return at::matmul(g, v.transpose(-2, -1));
}

std::vector<at::Tensor> gradientsOf(const at::Tensor& scalar, const std::vector<GradientPoints>& attentions,
                                    const CancellationPtr& cancellation) {
  autograd::variable_list tensors;
  for (const auto& points : attentions) {
    for (const auto& point : points) {
      tensors.push_back(point.tensor);
      if (cancellation) point.tensor.register_hook([cancellation](const at::Tensor&) { cancellation->check(); });
    }
  }
  const auto gradients = autograd::grad({scalar}, tensors, /*grad_outputs=*/{}, /*retain_graph=*/std::nullopt,
                                        /*create_graph=*/false, /*allow_unused=*/true);
  const OwnComputation own;
  std::vector<at::Tensor> ofWeights;
  auto gradient = gradients.begin();
  for (const auto& points : attentions) {
    at::Tensor sum;
    for (const auto& point : points) {
      const auto part = point.toWeights(gradient->defined() ? *gradient : at::zeros_like(point.tensor));
      sum = sum.defined() ? sum + part : part;
      ++gradient;
    }
    ofWeights.push_back(std::move(sum));
  }
  return ofWeights;
}

}  // namespace lta
