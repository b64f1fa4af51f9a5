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
    {"exp", Does::Exponentiates},
    {"exp2", Does::Exponentiates},
    {"log", Does::Logarithms},
    {"sigmoid", Does::Sigmoid},
    {"relu", Does::Relu},
    {"relu6", Does::Relu},
    {"tanh", Does::Bends},
    {"gelu", Does::Bends},
    {"silu", Does::Bends},
    {"elu", Does::Bends},
    {"celu", Does::Bends},
    {"selu", Does::Bends},
    {"mish", Does::Bends},
    {"erf", Does::Bends},
    {"atan", Does::Bends},
    {"neg", Does::Bends},
    {"sign", Does::Bends},
    {"log1p", Does::Bends},
    {"expm1", Does::Bends},
    {"round", Does::Bends},
    {"softplus", Does::Bends},
    {"log_sigmoid", Does::Bends},
    {"leaky_relu", Does::Bends},
    {"rrelu", Does::Bends},
    {"hardtanh", Does::Bends},
    {"hardsigmoid", Does::Bends},
    {"hardswish", Does::Bends},
    {"softsign", Does::Bends},
    {"reciprocal", Does::Bends},

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
