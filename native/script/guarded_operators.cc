#include "script/guarded_operators.h"

#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "torch/dispatcher.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Throws if an operator can't be called with these arguments.
using Check = void (*)(c10::ArrayRef<c10::IValue> arguments);

// Maximum size of a string or list that one operator creates.
constexpr int64_t kMaxElements = int64_t{1} << 27;

void checkDivision(c10::ArrayRef<c10::IValue> arguments) {
  if (!arguments[0].isInt() || !arguments[1].isInt()) return;
  const auto divisor = arguments[1].toInt();
  if (divisor == 0) throw std::runtime_error("division by 0");
  if (divisor == -1 && arguments[0].toInt() == std::numeric_limits<int64_t>::min()) {
    throw std::runtime_error("the quotient of the smallest integer and -1 overflows");
  }
}

void checkAbsolute(const c10::IValue& value) {
  if (value.isInt() && value.toInt() == std::numeric_limits<int64_t>::min()) {
    throw std::runtime_error("the smallest integer has no absolute value");
  }
}

// gcd of the smallest integer overflows.
void checkCommonDivisor(c10::ArrayRef<c10::IValue> arguments) {
  for (const auto& each : arguments.slice(0, 2)) checkAbsolute(each);
}

void checkSearchString(c10::ArrayRef<c10::IValue> arguments) {
  if (arguments[1].isString() && arguments[1].toStringRef().empty()) {
    throw std::runtime_error("expected a non-empty string to search for");
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

// The fused kernel divides by the size of a slice and reads one norm per slice.
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

// libtorch's loop never ends for the smallest exponent.
void checkMatrixPower(c10::ArrayRef<c10::IValue> arguments) { checkAbsolute(arguments[1]); }

void checkLowerBound(c10::ArrayRef<c10::IValue> arguments) {
  if (arguments[1].isInt() && arguments[1].toInt() == std::numeric_limits<int64_t>::max()) {
    throw std::runtime_error("expected a lower bound below the largest integer");
  }
}

// TorchScript represents dtypes, layouts and memory formats as integers, which libtorch doesn't validate.
struct Enumeration {
  const char* what;
  int64_t count;
};

// Excludes Undefined, the last dtype.
constexpr Enumeration kDtypes{"dtype", static_cast<int64_t>(c10::ScalarType::Undefined)};
constexpr Enumeration kLayouts{"layout", static_cast<int64_t>(c10::Layout::NumOptions)};
constexpr Enumeration kMemoryFormats{"memory format", static_cast<int64_t>(c10::MemoryFormat::NumOptions)};
static_assert(kDtypes.count + 1 == static_cast<int64_t>(c10::ScalarType::NumOptions));

void checkEnumeration(const Enumeration& enumeration, const c10::IValue& value) {
  if (!value.isInt() || (value.toInt() >= 0 && value.toInt() < enumeration.count)) return;
  throw std::runtime_error(std::string("expected the number of a ") + enumeration.what + ", below " +
                           std::to_string(enumeration.count) + ", but received " + std::to_string(value.toInt()));
}

// Operators whose first two arguments are dtypes, declared as integers.
void checkDtypes(c10::ArrayRef<c10::IValue> arguments) {
  for (const auto& each : arguments.slice(0, 2)) checkEnumeration(kDtypes, each);
}

// In TorchScript's own overloads of `to` the dtype is the second argument, or the third after a device.
void checkDtypeOfTo(c10::ArrayRef<c10::IValue> arguments) {
  for (const auto& each : arguments.slice(1, std::min<size_t>(2, arguments.size() - 1))) {
    checkEnumeration(kDtypes, each);
  }
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

struct Guard {
  const char* name;
  Check check;
  bool dispatched;  // an operator of the dispatcher rather than of TorchScript
};

constexpr Guard kGuards[] = {
    {"aten::divmod", checkDivision, false},
    {"aten::__round_to_zero_floordiv", checkDivision, false},
    {"aten::floordiv", checkDivision, false},
    {"aten::remainder", checkDivision, false},
    {"aten::gcd", checkCommonDivisor, false},
    {"aten::count", checkSearchString, false},
    {"aten::replace", checkSearchString, false},
    {"aten::center", checkWidth, false},
    {"aten::ljust", checkWidth, false},
    {"aten::rjust", checkWidth, false},
    {"aten::zfill", checkWidth, false},
    {"aten::mul", checkRepetition, false},
    {"aten::mul_", checkRepetition, false},
    {"aten::matrix_power", checkMatrixPower, true},
    {"aten::linalg_matrix_power", checkMatrixPower, true},
    {"aten::random", checkLowerBound, true},
    {"aten::random_", checkLowerBound, true},
    {"aten::to", checkDtypeOfTo, false},
    {"aten::promote_types", checkDtypes, false},
    {"aten::_weight_norm", checkWeightNorm, true},
    {"aten::_native_multi_head_attention", checkHeads<4>, true},
    {"aten::_transformer_encoder_layer_fwd", checkHeads<2>, true},
};

// The checks of one operator.
struct Checks {
  std::vector<std::pair<size_t, const Enumeration*>> enumerations;  // by index of the argument
  Check check = nullptr;

  bool any() const { return check || !enumerations.empty(); }
};

Checks checksOf(const jit::Operator& what) {
  Checks checks;
  const auto& arguments = what.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (const auto* enumeration = enumerationOf(arguments[i])) checks.enumerations.emplace_back(i, enumeration);
  }
  if (arguments.size() < 2) return checks;
  const auto* found = std::find_if(std::begin(kGuards), std::end(kGuards), [&](const Guard& guard) {
    return what.isC10Op() == guard.dispatched && what.schema().name() == guard.name;
  });
  if (found != std::end(kGuards)) checks.check = found->check;
  return checks;
}

jit::Operation guarded(jit::Operation operation, Checks checks, size_t count) {
  if (!checks.any()) return operation;
  return [operation = std::move(operation), checks = std::move(checks), count](jit::Stack& stack) mutable {
    const auto arguments = c10::ArrayRef<c10::IValue>(stack).slice(stack.size() - count, count);
    for (const auto& [argument, enumeration] : checks.enumerations) {
      checkEnumeration(*enumeration, arguments[argument]);
    }
    if (checks.check) checks.check(arguments);
    operation(stack);
  };
}

void registerGuarded(const jit::Operator& what) {
  const auto& schema = what.schema();
  const auto aliases = what.aliasAnalysisKind();
  auto operation = guarded(what.getOperation(), checksOf(what), schema.arguments().size());
  if (what.isC10Op()) {
    const auto handle = c10::Dispatcher::singleton().findSchema(schema.operator_name());
    if (!handle) return;
    jit::deregisterOperator(schema);
    jit::registerOperator(jit::Operator(*handle, std::move(operation)));
  } else {
    jit::deregisterOperator(schema);
    jit::registerOperator(jit::Operator(toString(schema), std::move(operation), aliases));
  }
}

}  // namespace

void guardOperators() {
  static std::once_flag once;
  std::call_once(once, [] {
    using Group = std::pair<c10::Symbol, bool>;  // name, and whether dispatched
    std::set<Group> groups;
    for (const auto& each : jit::getAllOperators()) {
      if (each->hasOperation() && checksOf(*each).any()) {
        groups.emplace(c10::Symbol::fromQualString(each->schema().name()), each->isC10Op());
      }
    }
    // Re-registers all overloads of a group in their order, since the first match is taken.
    for (const auto& [name, dispatched] : groups) {
      const auto operators = jit::getAllOperatorsFor(name);
      for (const auto& each : operators) {
        if (each->hasOperation() && each->isC10Op() == dispatched) registerGuarded(*each);
      }
    }
  });
}

}  // namespace lta::script
