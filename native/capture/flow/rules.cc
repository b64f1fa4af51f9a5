#include "capture/flow/rules.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <unordered_map>

namespace lta::flow {
namespace {

constexpr Rule kRules[] = {
    {"clone", Does::Copies},
    {"contiguous", Does::Copies},
    {"detach", Does::Copies},
    {"copy", Does::Copies, 1, 0},
    {"to", Does::Copies},
    {"_to_copy", Does::Copies},
    {"type_as", Does::Copies},
    {"nan_to_num", Does::Copies},
    {"alias", Does::Copies},

    {"mul", Does::Scales},
    {"multiply", Does::Scales},
    {"div", Does::Scales},
    {"divide", Does::Scales},
    {"true_divide", Does::Scales},

    {"add", Does::Adds},
    {"addcmul", Does::Adds},
    {"addcdiv", Does::Adds},
    {"lerp", Does::Adds},
    {"sub", Does::Subtracts},
    {"subtract", Does::Subtracts},
    {"rsub", Does::SubtractsFrom},

    {"masked_fill", Does::Masks},
    {"where", Does::Masks, 1, 2},
    {"dropout", Does::Masks},
    {"native_dropout", Does::Masks},
    {"feature_dropout", Does::Masks},
    {"fill", Does::Masks},
    {"zero", Does::Masks},
    {"index_fill", Does::Masks},
    {"index_put", Does::Masks},
    {"_index_put_impl", Does::Masks},
    {"masked_scatter", Does::Masks},
    {"tril", Does::Masks},
    {"triu", Does::Masks},
    {"threshold", Does::Relu},
    {"clamp", Does::Clamps},
    {"clip", Does::Clamps},
    {"clamp_min", Does::Clamps},
    {"clamp_max", Does::Clamps},
    {"maximum", Does::Clamps},
    {"minimum", Does::Clamps},

    {"pow", Does::Powers},
    {"square", Does::Powers},
    {"sqrt", Does::Powers},
    {"abs", Does::Powers},
    {"float_power", Does::Powers},
    {"exp", Does::Exponentiates},
    {"exp2", Does::Exponentiates},
    {"log", Does::Logarithms},
    {"sigmoid", Does::Sigmoid},
    {"relu", Does::Relu},
    {"relu6", Does::Relu},
    {"tanh", Does::KeepsSign},
    {"gelu", Does::KeepsSign},
    {"silu", Does::KeepsSign},
    {"elu", Does::KeepsSign},
    {"celu", Does::KeepsSign},
    {"selu", Does::KeepsSign},
    {"mish", Does::KeepsSign},
    {"erf", Does::KeepsSign},
    {"atan", Does::KeepsSign},
    {"rsqrt", Does::KeepsSign},
    {"floor", Does::KeepsSign},
    {"ceil", Does::KeepsSign},
    {"trunc", Does::KeepsSign},
    {"sgn", Does::KeepsSign},
    {"sinh", Does::KeepsSign},
    {"asinh", Does::KeepsSign},
    {"hardshrink", Does::KeepsSign},
    {"softshrink", Does::KeepsSign},
    {"prelu", Does::KeepsSign},
    {"_prelu_kernel", Does::KeepsSign},
    {"fake_quantize_per_tensor_affine", Does::KeepsSign},
    {"fake_quantize_per_channel_affine", Does::KeepsSign},
    {"neg", Does::Bends},
    {"sin", Does::Bends},
    {"cos", Does::Bends},
    {"tan", Does::Bends},
    {"cosh", Does::Bends},
    {"sinc", Does::Bends},
    {"erfc", Does::Bends},
    {"logit", Does::Bends},
    {"fmod", Does::Bends},
    {"remainder", Does::Bends},
    {"sign", Does::KeepsSign},
    {"log1p", Does::KeepsSign},
    {"expm1", Does::KeepsSign},
    {"round", Does::KeepsSign},
    {"softplus", Does::Bends},
    {"log_sigmoid", Does::Bends},
    {"leaky_relu", Does::KeepsSign},
    {"rrelu", Does::KeepsSign},
    {"hardtanh", Does::KeepsSign},
    {"hardsigmoid", Does::Sigmoid},
    {"hardswish", Does::KeepsSign},
    {"softsign", Does::KeepsSign},
    {"reciprocal", Does::KeepsSign},

    {"cumsum", Does::Accumulates},
    {"cumprod", Does::Accumulates},
    {"logcumsumexp", Does::Accumulates},
    {"layer_norm", Does::Normalizes},
    {"native_layer_norm", Does::Normalizes},
    {"rms_norm", Does::Normalizes},
    {"batch_norm", Does::Normalizes},
    {"native_batch_norm", Does::Normalizes},
    {"instance_norm", Does::Normalizes},
    {"group_norm", Does::Normalizes},
    {"native_group_norm", Does::Normalizes},
    {"log_softmax", Does::LogSoftmax},
    {"_log_softmax", Does::LogSoftmax},

    {"sum", Does::Sums},
    {"mean", Does::Averages},
    {"amax", Does::Maximizes},
    {"max", Does::Maximizes},
    {"logsumexp", Does::LogSums},
    {"norm", Does::Norms},
    {"linalg_vector_norm", Does::Norms},

    {"argmax", Does::Chooses},
    {"one_hot", Does::Marks},
    {"topk", Does::Picks},
    {"sort", Does::Picks},
    {"gather", Does::Picks},
    {"take_along_dim", Does::Picks},
    {"flip", Does::Picks},
    {"roll", Does::Picks},
    {"index_select", Does::Selects},
    {"index", Does::Indexes},
    {"scatter", Does::Scatters, 3, 0},
    {"scatter_add", Does::Scatters, 3, 0},
    {"index_add", Does::Scatters, 3, 0},
    {"index_copy", Does::Scatters, 3, 0},
    {"slice_scatter", Does::Scatters, 1, 0},
    {"avg_pool1d", Does::Resamples},
    {"avg_pool2d", Does::Resamples},
    {"avg_pool3d", Does::Resamples},
    {"adaptive_avg_pool1d", Does::Resamples},
    {"adaptive_avg_pool2d", Does::Resamples},
    {"adaptive_avg_pool3d", Does::Resamples},
    {"upsample_nearest1d", Does::Resamples},
    {"upsample_nearest2d", Does::Resamples},
    {"upsample_nearest3d", Does::Resamples},
    {"upsample_linear1d", Does::Resamples},
    {"upsample_bilinear2d", Does::Resamples},
    {"upsample_trilinear3d", Does::Resamples},
    {"constant_pad_nd", Does::Pads},
    {"pad", Does::Pads},
    {"repeat", Does::Repeats},
    {"tile", Does::Repeats},
    {"repeat_interleave", Does::Repeats},
    {"cat", Does::Concatenates},
    {"concat", Does::Concatenates},
    {"stack", Does::Stacks},
    {"convolution", Does::Convolves},
    {"_convolution", Does::Convolves},
    {"conv1d", Does::Convolves},
    {"conv2d", Does::Convolves},
    {"conv3d", Does::Convolves},

    {"matmul", Does::Matmul},
    {"bmm", Does::Bmm},
    {"baddbmm", Does::Bmm, 1, 2},
    {"mm", Does::Mm},
    {"addmm", Does::Mm, 1, 2},
    {"mv", Does::Mv},
    {"addmv", Does::Mv, 1, 2},
    {"linear", Does::Linear},
    {"cdist", Does::Distance},
    {"_cdist_forward", Does::Distance},

    {"einsum", Does::Contains},
    {"tensordot", Does::Contains},
    {"inner", Does::Contains},
    {"multi_head_attention_forward", Does::Contains},

    {"view", Does::Reshapes},
    {"_unsafe_view", Does::Reshapes},
    {"reshape", Does::Reshapes},
    {"_reshape_copy", Does::Reshapes},

    {"arange", Does::Makes},
    {"linspace", Does::Makes},
    {"zeros", Does::Makes},
    {"ones", Does::Makes},
    {"full", Does::Makes},
    {"eye", Does::Makes},
    {"zeros_like", Does::Makes},
    {"ones_like", Does::Makes},
    {"full_like", Does::Makes},
    {"scalar_tensor", Does::Makes},

    {"fft_irfft", Does::InverseFourier},
    {"fft_ifft", Does::InverseFourier},
};

}  // namespace

const Rule* ruleFor(std::string_view operatorName) {
  static const auto* const rules = [] {
    auto* const byName = new std::unordered_map<std::string_view, const Rule*>();
    for (const auto& rule : kRules) byName->emplace(rule.name, &rule);
    return byName;
  }();
  auto found = rules->find(operatorName);
  if (found == rules->end() && operatorName.size() > 1 && operatorName.back() == '_') {
    operatorName.remove_suffix(1);
    found = rules->find(operatorName);
  }
  return found == rules->end() ? nullptr : found->second;
}

bool isPointwise(Does does) { return does <= Does::Bends; }

bool isProduct(Does does) { return does >= Does::Matmul && does <= Does::Distance; }

}  // namespace lta::flow
