#include "nn/multihead_attention.h"

#include <ATen/ATen.h>
#include <torch/nn/init.h>

#include "capture/attention_gradient.h"
#include "capture/probe.h"
#include "nn/leaves.h"
#include "nn/module_call.h"
#include "runtime/error.h"

namespace lta::nn {
namespace {

// Weights that a module returns to its caller aren't captured as attention.
at::Tensor uncapturedWeights(const SdpaArguments& call) {
  const ProbeSuspended suspended;
  return differentiableWeights(call);
}

// Appends a key that no mask hides.
at::Tensor padded(const at::Tensor& mask) { return at::constant_pad_nd(mask, {0, 1}); }

}  // namespace

MultiheadAttention::MultiheadAttention(const MultiheadAttentionOptions& options)
    : torch::nn::MultiheadAttentionImpl(torch::nn::MultiheadAttentionOptions(1, 1)), settings_(options) {
  const auto& given = settings_;
  this->options = torch::nn::MultiheadAttentionOptions(given.embedDim, given.numHeads)
                      .dropout(given.dropout)
                      .bias(given.bias)
                      .add_bias_kv(given.addBiasKv)
                      .add_zero_attn(given.addZeroAttn)
                      .kdim(given.kdim)
                      .vdim(given.vdim);
  const int64_t size = given.embedDim;
  head_dim = size / given.numHeads;
  _qkv_same_embed_dim = given.kdim == size && given.vdim == size;

  parameters_.clear();
  in_proj_weight = in_proj_bias = at::Tensor();
  if (_qkv_same_embed_dim) {
    in_proj_weight = register_parameter("in_proj_weight", at::empty({3 * size, size}));
  } else {
    q_proj_weight = register_parameter("q_proj_weight", at::empty({size, size}));
    k_proj_weight = register_parameter("k_proj_weight", at::empty({size, given.kdim}));
    v_proj_weight = register_parameter("v_proj_weight", at::empty({size, given.vdim}));
  }
  if (given.bias) in_proj_bias = register_parameter("in_proj_bias", at::empty({3 * size}));
  if (given.addBiasKv) {
    bias_k = register_parameter("bias_k", at::empty({1, 1, size}));
    bias_v = register_parameter("bias_v", at::empty({1, 1, size}));
  }
  out_proj = torch::nn::Linear(replace_module("out_proj", linear(size, size, given.bias)));
}

void MultiheadAttention::initialise() {
  const at::NoGradGuard noGrad;
  out_proj->reset_parameters();
  for (auto* weight : {&in_proj_weight, &q_proj_weight, &k_proj_weight, &v_proj_weight}) {
    if (weight->defined()) torch::nn::init::xavier_uniform_(*weight);
  }
  if (in_proj_bias.defined()) {
    in_proj_bias.zero_();
    out_proj->bias.zero_();
  }
  for (auto* bias : {&bias_k, &bias_v}) {
    if (bias->defined()) torch::nn::init::xavier_normal_(*bias);
  }
}

std::shared_ptr<torch::nn::Module> MultiheadAttention::clone(const std::optional<c10::Device>&) const {
  auto copy = copyOf(*this, settings_);
  copy->setNeedWeights(needWeights_);
  return copy;
}

c10::IValue MultiheadAttention::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  const auto type = inputs.at(0).scalar_type();
  AttentionArguments arguments;
  arguments.keyPaddingMask = Mask(named.tensor("keyPaddingMask"), type);
  arguments.attnMask = Mask(named.tensor("attnMask"), type);
  arguments.isCausal = named.flag("isCausal").value_or(false);
  arguments.needWeights = named.flag("needWeights");
  arguments.averageWeights = named.flag("averageAttnWeights").value_or(true);
  const auto result = call("", inputs.at(0), inputs.at(1), inputs.at(2), arguments);
  return c10::ivalue::Tuple::create(result.output,
                                    result.weights.defined() ? c10::IValue(result.weights) : c10::IValue());
}

AttentionResult MultiheadAttention::call(const std::string& name, const at::Tensor& query, const at::Tensor& key,
                                         const at::Tensor& value, const AttentionArguments& arguments) {
  const auto tuple = callModule(name, *this, {query, key, value}, [&](const std::vector<c10::IValue>& inputs) {
    auto result = attend(inputs.at(0).toTensor(), inputs.at(1).toTensor(), inputs.at(2).toTensor(), arguments);
    return c10::IValue(c10::ivalue::Tuple::create(
        std::move(result.output), result.weights.defined() ? c10::IValue(result.weights) : c10::IValue()));
  });
  const auto& elements = tuple.toTupleRef().elements();
  return {elements.at(0).toTensor(), elements.at(1).isTensor() ? elements.at(1).toTensor() : at::Tensor()};
}

AttentionResult MultiheadAttention::attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                           const AttentionArguments& arguments) {
  const bool needWeights = arguments.needWeights.value_or(needWeights_ || runNeedsWeights());
  if (arguments.isCausal && !arguments.attnMask.defined()) {
    throw Error("ERR_INVALID_ARGUMENT", "Expected a mask beside isCausal, which only says that the mask is causal");
  }
  const auto plain = [](const Mask& mask) { return !mask.defined() || mask.boolean(); };
  if (query.is_same(key) && key.is_same(value) && fusable(query) && !tracksGradients(query) &&
      plain(arguments.attnMask) && plain(arguments.keyPaddingMask)) {
    return fused(query, arguments, needWeights);
  }
  return composed(query, key, value, arguments, needWeights);
}

bool MultiheadAttention::fusable(const at::Tensor& query) const {
  return query.dim() == 3 && !trains(*this) && settings_.batchFirst && in_proj_weight.defined() &&
         in_proj_bias.defined() && query.scalar_type() == in_proj_weight.scalar_type() && settings_.numHeads % 2 == 0 &&
         !settings_.addBiasKv && !settings_.addZeroAttn;
}

bool MultiheadAttention::tracksGradients(const at::Tensor& input) const {
  if (!at::GradMode::is_enabled()) return false;
  for (const auto* tensor : {&input, &in_proj_weight, &in_proj_bias, &out_proj->weight, &out_proj->bias}) {
    if (tensor->defined() && tensor->requires_grad()) return true;
  }
  return false;
}

std::pair<std::optional<at::Tensor>, std::optional<int64_t>> MultiheadAttention::mergeMasks(
    const Mask& attnMask, const Mask& padding, const at::Tensor& query) const {
  // Mask types of the kernels: 1 for [B, S], 2 for [B, H, T, S].
  if (!attnMask.defined()) {
    if (!padding.defined()) return {std::nullopt, std::nullopt};
    return {padding.hidden(), 1};
  }
  const auto batch = query.size(0), length = query.size(1), heads = settings_.numHeads;
  auto merged = attnMask.hidden();
  merged = merged.dim() == 3 ? merged.view({batch, -1, length, length})
                             : merged.view({1, 1, length, length}).expand({batch, heads, -1, -1});
  if (padding.defined()) merged = merged.logical_or(padding.hidden().view({batch, 1, 1, length}));
  return {merged, 2};
}

AttentionResult MultiheadAttention::fused(const at::Tensor& query, const AttentionArguments& arguments,
                                          bool needWeights) {
  // On the CPU the kernel computes weights anyway; on other devices requesting them would select another kernel.
  const bool returned = needWeights && query.is_cpu();
  const auto [mask, type] = mergeMasks(arguments.attnMask, arguments.keyPaddingMask, query);
  auto [output, weights] = at::_native_multi_head_attention(
      query, query, query, settings_.embedDim, settings_.numHeads, in_proj_weight, in_proj_bias, out_proj->weight,
      out_proj->bias, mask, returned, /*average_attn_weights=*/false, type);
  if (!needWeights) return {output, {}};
  if (query.numel() == 0) {  // the kernel returns none
    weights = at::empty({query.size(0), settings_.numHeads, query.size(1), query.size(1)}, query.options());
  } else if (!returned) {
    const auto batch = query.size(0), length = query.size(1);
    const auto projected = at::linear(query, in_proj_weight.narrow(0, 0, 2 * settings_.embedDim),
                                      in_proj_bias.narrow(0, 0, 2 * settings_.embedDim))
                               .view({batch, length, 2, settings_.numHeads, head_dim})
                               .permute({2, 0, 3, 1, 4});
    std::optional<at::Tensor> seen;
    if (mask) seen = (*type == 1 ? mask->view({batch, 1, 1, length}) : *mask).logical_not();
    weights = uncapturedWeights({projected[0], projected[1], seen, false, std::nullopt, false});
  }
  return {output, arguments.averageWeights ? weights.mean(1) : weights};
}

std::vector<at::Tensor> MultiheadAttention::project(const at::Tensor& query, const at::Tensor& key,
                                                    const at::Tensor& value) const {
  const auto size = settings_.embedDim;
  const auto part = [](const at::Tensor& tensor, int64_t from, int64_t length) {
    return tensor.defined() ? tensor.narrow(0, from, length) : tensor;
  };
  // Several projections of one input are computed as one product.
  const auto projectJointly = [&](const at::Tensor& input, int64_t from, int64_t count) {
    const auto product = at::linear(input, part(in_proj_weight, from * size, count * size),
                                    part(in_proj_bias, from * size, count * size));
    return product.unflatten(-1, {count, size}).unsqueeze(0).transpose(0, -2).squeeze(-2).contiguous();
  };
  if (!_qkv_same_embed_dim) {
    return {at::linear(query, q_proj_weight, part(in_proj_bias, 0, size)),
            at::linear(key, k_proj_weight, part(in_proj_bias, size, size)),
            at::linear(value, v_proj_weight, part(in_proj_bias, 2 * size, size))};
  }
  if (key.is_same(value)) {
    if (query.is_same(key)) {
      const auto all = projectJointly(query, 0, 3);
      return {all[0], all[1], all[2]};
    }
    const auto both = projectJointly(key, 1, 2);
    return {at::linear(query, part(in_proj_weight, 0, size), part(in_proj_bias, 0, size)), both[0], both[1]};
  }
  std::vector<at::Tensor> each;
  int64_t from = 0;
  for (const auto* input : {&query, &key, &value}) {
    each.push_back(at::linear(*input, part(in_proj_weight, from, size), part(in_proj_bias, from, size)));
    from += size;
  }
  return each;
}

AttentionResult MultiheadAttention::composed(at::Tensor query, at::Tensor key, at::Tensor value,
                                             const AttentionArguments& arguments, bool needWeights) {
  const bool batched = query.dim() == 3;
  // Sequence-first from here on. Identical tensors stay identical, so that they are projected together.
  const auto arranged = [&](const at::Tensor& input) {
    if (!batched) return input.unsqueeze(1);
    return settings_.batchFirst ? input.transpose(0, 1) : input;
  };
  const bool sameKey = query.is_same(key), sameValue = key.is_same(value);
  query = arranged(query);
  key = sameKey ? query : arranged(key);
  value = sameValue ? key : arranged(value);

  const auto length = query.size(0), batch = query.size(1), heads = settings_.numHeads;
  auto projected = project(query, key, value);
  auto &q = projected[0], &k = projected[1], &v = projected[2];

  at::Tensor mask = arguments.attnMask.added();
  at::Tensor padding = arguments.keyPaddingMask.added();
  bool causal = arguments.isCausal;
  if (padding.defined()) {
    causal = false;  // the kernel takes no mask together with the flag
    if (!batched) padding = padding.unsqueeze(0);
  } else if (causal && !settings_.addBiasKv && !settings_.addZeroAttn) {
    mask = at::Tensor();  // equivalent to the flag
  } else {
    causal = false;  // the flag, unlike the mask, would hide the keys that are appended
  }
  if (mask.defined() && mask.dim() == 2) mask = mask.unsqueeze(0);

  const auto addKey = [&] {
    if (mask.defined()) mask = padded(mask);
    if (padding.defined()) padding = padded(padding);
  };
  if (settings_.addBiasKv) {
    k = at::cat({k, bias_k.repeat({1, batch, 1})});
    v = at::cat({v, bias_v.repeat({1, batch, 1})});
    addKey();
  }
  const auto split = [&](const at::Tensor& tensor) {
    return tensor.view({tensor.size(0), batch * heads, head_dim}).transpose(0, 1);
  };
  q = split(q);
  k = split(k);
  v = split(v);
  if (settings_.addZeroAttn) {
    const auto zeros = at::zeros({batch * heads, 1, head_dim}, k.options());
    k = at::cat({k, zeros}, 1);
    v = at::cat({v, zeros}, 1);
    addKey();
  }
  const auto keys = k.size(1);
  if (padding.defined()) {
    padding = padding.view({batch, 1, 1, keys}).expand({-1, heads, -1, -1}).reshape({batch * heads, 1, keys});
    mask = mask.defined() ? mask + padding : padding;
  }
  std::optional<at::Tensor> kernelMask;
  if (mask.defined())
    kernelMask = mask.size(0) == 1 ? mask.unsqueeze(0) : mask.view({batch, heads, mask.size(1), keys});
  q = q.view({batch, heads, length, head_dim});
  k = k.view({batch, heads, keys, head_dim});
  v = v.view({batch, heads, keys, head_dim});

  const auto attended =
      at::scaled_dot_product_attention(q, k, v, kernelMask, trains(*this) ? settings_.dropout : 0.0, causal);
  auto output = attended.permute({2, 0, 1, 3}).reshape({batch * length, settings_.embedDim});
  output = at::linear(output, out_proj->weight, out_proj->bias).view({length, batch, settings_.embedDim});
  if (!batched) {
    output = output.squeeze(1);
  } else if (settings_.batchFirst) {
    output = output.transpose(0, 1);
  }
  if (!needWeights) return {output, {}};
  auto weights = returnedBeside(attended, uncapturedWeights({q, k, kernelMask, causal, std::nullopt, false}));
  if (arguments.averageWeights) weights = weights.mean(1);
  return {output, batched ? weights : weights.squeeze(0)};
}

}  // namespace lta::nn
