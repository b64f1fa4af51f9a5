#include "script/guarded_operators.h"

#include <torch/csrc/jit/runtime/operator.h>

#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "torch/dispatcher.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Throws where an operator can't be called with the arguments on top of a stack, as many as it has.
using Check = void (*)(c10::ArrayRef<c10::IValue> arguments);

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

// Zero has divisors without end, the smallest integer no absolute value.
void checkCommonDivisor(c10::ArrayRef<c10::IValue> arguments) {
  for (const auto& each : arguments.slice(0, 2)) {
    if (each.isInt() && each.toInt() == std::numeric_limits<int64_t>::min()) {
      throw std::runtime_error("the smallest integer has no absolute value");
    }
  }
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

struct Guard {
  const char* name;
  Check check;
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
    {"aten::_native_multi_head_attention", checkHeads<4>, true},
    {"aten::_transformer_encoder_layer_fwd", checkHeads<2>, true},
};

// All of a name's operators of one sort are registered again, in their order, since the first that fits is taken.
void guard(const Guard& what) {
  const std::vector<std::shared_ptr<jit::Operator>> operators =
      jit::getAllOperatorsFor(c10::Symbol::fromQualString(what.name));
  for (const auto& each : operators) {
    if (each->isC10Op() != what.dispatched || !each->hasOperation()) continue;
    const auto schema = each->schema();
    const auto count = schema.arguments().size();
    if (count < 2) continue;
    jit::Operation guarded = [operation = each->getOperation(), check = what.check, count](jit::Stack& stack) mutable {
      check(c10::ArrayRef<c10::IValue>(stack).slice(stack.size() - count, count));
      operation(stack);
    };
    const auto aliases = each->aliasAnalysisKind();
    if (what.dispatched) {
      const auto handle = c10::Dispatcher::singleton().findSchema(schema.operator_name());
      if (!handle) continue;
      jit::deregisterOperator(schema);
      jit::registerOperator(jit::Operator(*handle, std::move(guarded)));
    } else {
      jit::deregisterOperator(schema);
      jit::registerOperator(jit::Operator(toString(schema), std::move(guarded), aliases));
    }
  }
}

}  // namespace

void guardOperators() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const auto& each : kGuards) guard(each);
  });
}

}  // namespace lta::script
