#include "runtime/operator_checks.h"

#include <ATen/core/Tensor.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace lta {

struct Enumeration {
  const char* what;
  int64_t count;
};

namespace {

// What a string or a list that an operator makes by itself may have.
constexpr int64_t kMaxElements = int64_t{1} << 27;

void checkDivision(c10::ArrayRef<c10::IValue> arguments) {
  if (!arguments[0].isInt() || !arguments[1].isInt()) return;
  const auto divisor = arguments[1].toInt();
  if (divisor == 0) throw std::runtime_error("division by 0");
  if (divisor == -1 && arguments[0].toInt() == std::numeric_limits<int64_t>::min()) {
    throw std::runtime_error("the quotient of the smallest integer and -1 is no integer");
  }
}

void checkAbsolute(const c10::IValue& value) {
  if (value.isInt() && value.toInt() == std::numeric_limits<int64_t>::min()) {
    throw std::runtime_error("the smallest integer has no absolute value");
  }
}

// Zero has divisors without end, the smallest integer no absolute value.
void checkCommonDivisor(c10::ArrayRef<c10::IValue> arguments) {
  for (const auto& each : arguments.slice(0, 2)) checkAbsolute(each);
}

void checkNeedle(c10::ArrayRef<c10::IValue> arguments) {
  if (arguments[1].isString() && arguments[1].toStringRef().empty()) {
    throw std::runtime_error("expected a string to look for but received an empty one");
  }
}

void checkWidth(c10::ArrayRef<c10::IValue> arguments) {
  if (arguments[1].isInt() && arguments[1].toInt() > kMaxElements) {
    throw std::runtime_error("expected a width of at most " + std::to_string(kMaxElements) + " but received " +
                             std::to_string(arguments[1].toInt()));
  }
}

void checkRepetition(c10::ArrayRef<c10::IValue> arguments) {
  const bool first = arguments[0].isList();
  const auto& list = arguments[first ? 0 : 1];
  const auto& count = arguments[first ? 1 : 0];
  if (!list.isList() || !count.isInt()) return;
  const auto size = static_cast<int64_t>(list.toListRef().size());
  if (size > 0 && count.toInt() > kMaxElements / size) {
    throw std::runtime_error("expected a list of at most " + std::to_string(kMaxElements) + " elements but received " +
                             std::to_string(count.toInt()) + " times " + std::to_string(size));
  }
}

template <size_t Argument>
void checkHeads(c10::ArrayRef<c10::IValue> arguments) {
  if (arguments[Argument].isInt() && arguments[Argument].toInt() <= 0) {
    throw std::runtime_error("expected at least one head but received " + std::to_string(arguments[Argument].toInt()));
  }
}

// The tensor that an argument is; null for anything else.
const at::Tensor* tensorOf(const c10::IValue& argument) {
  return argument.isTensor() && argument.toTensor().defined() ? &argument.toTensor() : nullptr;
}

// The fused kernel divides by the size of a slice, and reads as many norms as there are slices.
void checkWeightNorm(c10::ArrayRef<c10::IValue> arguments) {
  const auto* const weight = tensorOf(arguments[0]);
  const auto* const norms = tensorOf(arguments[1]);
  if (!weight || !norms || !arguments[2].isInt()) return;
  const auto dimension = arguments[2].toInt();
  if (dimension != 0 && dimension != weight->dim() - 1) return;
  if (weight->dim() == 0 || weight->numel() == 0 || norms->numel() != weight->size(dimension)) {
    throw std::runtime_error("expected a weight with elements and one norm for each slice of it");
  }
}

// Kernels of an interpolation that is given sizes and scales read wherever the scales say. A list of scales is taken
// instead of sizes only. By what Python computes sizes: the whole part of size times scale.
void checkScales(c10::ArrayRef<c10::IValue> arguments) {
  const auto* const input = tensorOf(arguments[0]);
  if (!input || !arguments[1].isIntList()) return;
  const auto sizes = arguments[1].toIntVector();
  if (sizes.size() > input->sizes().size()) return;
  const auto resized = input->sizes().slice(input->sizes().size() - sizes.size());
  const auto scales = arguments.slice(arguments.size() > 2 && arguments[2].isBool() ? 3 : 2);
  for (size_t i = 0; i < std::min(sizes.size(), scales.size()); ++i) {
    if (!scales[i].isDouble()) continue;
    const auto scale = scales[i].toDouble();
    const auto scaled = static_cast<double>(resized[i]) * scale;
    if (scale > 0 && std::abs(scaled - static_cast<double>(sizes[i])) <= 1) continue;
    throw std::runtime_error(
        c10::str("expected a scale that makes ", sizes[i], " elements of ", resized[i], " but received ", scale));
  }
}

// The dimensions of a Fourier transform.
void checkTransform(c10::ArrayRef<c10::IValue> arguments) {
  const auto* const input = tensorOf(arguments[0]);
  if (!input || !arguments[1].isIntList()) return;
  std::vector<bool> met(static_cast<size_t>(input->dim()));
  for (const auto dimension : arguments[1].toIntVector()) {
    const auto position = dimension < 0 ? dimension + input->dim() : dimension;
    if (position < 0 || position >= input->dim() || met[static_cast<size_t>(position)]) {
      throw std::runtime_error("expected different dimensions of " + std::to_string(input->dim()) + " but received " +
                               std::to_string(dimension));
    }
    met[static_cast<size_t>(position)] = true;
  }
}

// A real transform of n elements takes n / 2 + 1 of its input.
void checkTransformToReal(c10::ArrayRef<c10::IValue> arguments) {
  checkTransform(arguments);
  const auto* const input = tensorOf(arguments[0]);
  if (!input || !arguments[1].isIntList() || arguments.size() < 4 || !arguments[3].isInt()) return;
  const auto dimensions = arguments[1].toIntVector();
  if (dimensions.empty()) return;
  const auto given = input->size(dimensions.back());
  const auto length = arguments[3].toInt();
  if (length < 1 || length / 2 + 1 > given) {
    throw std::runtime_error("expected 1 to " + std::to_string(2 * given - 1) + " elements but received " +
                             std::to_string(length));
  }
}

// Batch norm proper: weight, bias and statistics are read by channel, whatever they have. The variant that never trains
// has no flag for it.
void checkBatchNorm(c10::ArrayRef<c10::IValue> arguments) {
  const auto* const input = tensorOf(arguments[0]);
  if (!input) return;
  if (input->dim() < 2) throw std::runtime_error("expected an input with a batch and channels");
  for (const auto& each : arguments.slice(1, std::min<size_t>(4, arguments.size() - 1))) {
    const auto* const values = tensorOf(each);
    if (!values || (values->dim() == 1 && values->numel() == input->size(1))) continue;
    throw std::runtime_error("expected one value for each of " + std::to_string(input->size(1)) + " channels");
  }
  const auto* flag = std::find_if(arguments.begin(), arguments.end(), [](const auto& each) { return each.isBool(); });
  const bool trains = flag != arguments.end() && flag->toBool();
  if (!trains && arguments.size() > 4 && (!tensorOf(arguments[3]) || !tensorOf(arguments[4]))) {
    throw std::runtime_error("expected statistics to normalize by");
  }
}

// Those of libtorch's loops that the largest or smallest integer never ends.
void checkMatrixPower(c10::ArrayRef<c10::IValue> arguments) { checkAbsolute(arguments[1]); }

void checkRandomFrom(c10::ArrayRef<c10::IValue> arguments) {
  if (arguments[1].isInt() && arguments[1].toInt() == std::numeric_limits<int64_t>::max()) {
    throw std::runtime_error("expected numbers from below the largest integer");
  }
}

// Undefined, the last of the dtypes, is none that a tensor can have.
constexpr Enumeration kDtypes{"dtype", static_cast<int64_t>(c10::ScalarType::Undefined)};
constexpr Enumeration kLayouts{"layout", static_cast<int64_t>(c10::Layout::NumOptions)};
constexpr Enumeration kMemoryFormats{"memory format", static_cast<int64_t>(c10::MemoryFormat::NumOptions)};
static_assert(kDtypes.count + 1 == static_cast<int64_t>(c10::ScalarType::NumOptions));

// Those that two integers without a better type stand for.
void checkDtypes(c10::ArrayRef<c10::IValue> arguments) {
  for (const auto& each : arguments.slice(0, 2)) checkEnumeration(kDtypes, each);
}

// TorchScript's own forms of `to` have it second, or third behind a device.
void checkDtypeOfTo(c10::ArrayRef<c10::IValue> arguments) {
  for (const auto& each : arguments.slice(1, std::min<size_t>(2, arguments.size() - 1))) {
    checkEnumeration(kDtypes, each);
  }
}

struct Guard {
  const char* name;
  OperatorCheck check;
  bool dispatched;  // an operator of the dispatcher, or one of TorchScript alone
};

constexpr Guard kGuards[] = {
    {"aten::divmod", checkDivision, false},
    {"aten::__round_to_zero_floordiv", checkDivision, false},
    {"aten::floordiv", checkDivision, false},
    {"aten::remainder", checkDivision, false},
    {"aten::gcd", checkCommonDivisor, false},
    {"aten::count", checkNeedle, false},
    {"aten::replace", checkNeedle, false},
    {"aten::center", checkWidth, false},
    {"aten::ljust", checkWidth, false},
    {"aten::rjust", checkWidth, false},
    {"aten::zfill", checkWidth, false},
    {"aten::mul", checkRepetition, false},
    {"aten::mul_", checkRepetition, false},
    {"aten::matrix_power", checkMatrixPower, true},
    {"aten::linalg_matrix_power", checkMatrixPower, true},
    {"aten::random", checkRandomFrom, true},
    {"aten::random_", checkRandomFrom, true},
    {"aten::to", checkDtypeOfTo, false},
    {"aten::promote_types", checkDtypes, false},
    {"aten::_weight_norm", checkWeightNorm, true},
    {"aten::_fft_c2c", checkTransform, true},
    {"aten::_fft_c2r", checkTransformToReal, true},
    {"aten::_fft_r2c", checkTransform, true},
    {"aten::_native_batch_norm_legit", checkBatchNorm, true},
    {"aten::_native_batch_norm_legit_no_training", checkBatchNorm, true},
    {"aten::native_batch_norm", checkBatchNorm, true},
    {"aten::_upsample_bicubic2d_aa", checkScales, true},
    {"aten::_upsample_bilinear2d_aa", checkScales, true},
    {"aten::_upsample_lanczos2d_aa", checkScales, true},
    {"aten::_upsample_nearest_exact1d", checkScales, true},
    {"aten::_upsample_nearest_exact2d", checkScales, true},
    {"aten::_upsample_nearest_exact3d", checkScales, true},
    {"aten::upsample_bicubic2d", checkScales, true},
    {"aten::upsample_bilinear2d", checkScales, true},
    {"aten::upsample_linear1d", checkScales, true},
    {"aten::upsample_nearest1d", checkScales, true},
    {"aten::upsample_nearest2d", checkScales, true},
    {"aten::upsample_nearest3d", checkScales, true},
    {"aten::upsample_trilinear3d", checkScales, true},
    {"aten::_native_multi_head_attention", checkHeads<4>, true},
    {"aten::_transformer_encoder_layer_fwd", checkHeads<2>, true},
};

}  // namespace

OperatorCheck checkOf(const c10::FunctionSchema& schema, bool dispatched) {
  if (schema.arguments().size() < 2) return nullptr;
  const auto* found = std::find_if(std::begin(kGuards), std::end(kGuards), [&](const Guard& guard) {
    return dispatched == guard.dispatched && schema.name() == guard.name;
  });
  return found == std::end(kGuards) ? nullptr : found->check;
}

void checkEnumeration(const Enumeration& enumeration, const c10::IValue& value) {
  if (!value.isInt() || (value.toInt() >= 0 && value.toInt() < enumeration.count)) return;
  throw std::runtime_error(std::string("expected the number of a ") + enumeration.what + ", below " +
                           std::to_string(enumeration.count) + ", but received " + std::to_string(value.toInt()));
}

const Enumeration* enumerationOf(const c10::Argument& argument) {
  auto type = argument.real_type();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  switch (type->kind()) {
    case c10::TypeKind::ScalarTypeType:
      return &kDtypes;
    case c10::TypeKind::LayoutType:
      return &kLayouts;
    case c10::TypeKind::MemoryFormatType:
      return &kMemoryFormats;
    default:
      return nullptr;
  }
}

}  // namespace lta
