#include "runtime/operator_checks.h"

#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>

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

// The fused kernel divides by the size of a slice, and reads as many norms as there are slices.
void checkWeightNorm(c10::ArrayRef<c10::IValue> arguments) {
  if (!arguments[0].isTensor() || !arguments[1].isTensor() || !arguments[2].isInt()) return;
  const auto& weight = arguments[0].toTensor();
  const auto& norms = arguments[1].toTensor();
  const auto dimension = arguments[2].toInt();
  if (!weight.defined() || !norms.defined() || (dimension != 0 && dimension != weight.dim() - 1)) return;
  if (weight.dim() == 0 || weight.numel() == 0 || norms.numel() != weight.size(dimension)) {
    throw std::runtime_error("expected a weight with elements and one norm for each slice of it");
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
