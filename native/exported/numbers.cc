#include "exported/numbers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "runtime/error.h"

namespace lta::exported {
namespace {

using c10::IValue;
using enum NumberOperator;

constexpr std::pair<std::string_view, NumberOperator> kTargets[] = {
    {"_operator.add", Add},
    {"_operator.sub", Subtract},
    {"_operator.mul", Multiply},
    {"_operator.floordiv", FloorDivide},
    {"_operator.truediv", TrueDivide},
    {"_operator.mod", Modulo},
    {"_operator.pow", Power},
    {"_operator.neg", Negate},
    {"_operator.pos", Positive},
    {"_operator.eq", Equal},
    {"_operator.ne", NotEqual},
    {"_operator.le", LessEqual},
    {"_operator.lt", Less},
    {"_operator.ge", GreaterEqual},
    {"_operator.gt", Greater},
    {"_operator.and_", And},
    {"_operator.or_", Or},
    {"_operator.lshift", ShiftLeft},
    {"_operator.rshift", ShiftRight},
    {"math.trunc", Truncate},
    {"torch.sym_int", Truncate},
    {"torch.sym_not", Not},
    {"torch.sym_float", ToFloat},
    {"torch.sym_ite", Select},
    {"torch.sym_max", Maximum},
    {"torch.sym_min", Minimum},
    {"torch.sym_sqrt", SquareRoot},
    {"torch._sym_sqrt", SquareRoot},
};

Error failed(const std::string& what) { return Error("ERR_MODEL_RUN", what); }

bool isWhole(const IValue& value) { return value.isInt() || value.isBool(); }

int64_t whole(const IValue& value) {
  if (value.isBool()) return value.toBool() ? 1 : 0;
  if (value.isInt()) return value.toInt();
  throw failed("expected an integer but received a " + value.tagKind());
}

double real(const IValue& value) {
  if (value.isDouble()) return value.toDouble();
  if (isWhole(value)) return static_cast<double>(whole(value));
  throw failed("expected a number but received a " + value.tagKind());
}

Error tooLarge() { return failed("an integer that the program computes has more than 64 bits"); }

template <bool (*kWithOverflow)(int64_t, int64_t, int64_t*)>
int64_t exactly(int64_t a, int64_t b) {
  int64_t result = 0;
  if (kWithOverflow(a, b, &result)) throw tooLarge();
  return result;
}

bool addOverflows(int64_t a, int64_t b, int64_t* result) { return __builtin_add_overflow(a, b, result); }
bool subtractOverflows(int64_t a, int64_t b, int64_t* result) { return __builtin_sub_overflow(a, b, result); }
bool multiplyOverflows(int64_t a, int64_t b, int64_t* result) { return __builtin_mul_overflow(a, b, result); }

void checkDivisor(int64_t a, int64_t b) {
  if (b == 0) throw failed("the program divides an integer by zero");
  if (b == -1 && a == std::numeric_limits<int64_t>::min()) throw tooLarge();
}

// Python rounds to minus infinity, and the remainder has the divisor's sign.
int64_t floorDivide(int64_t a, int64_t b) {
  checkDivisor(a, b);
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
}

int64_t modulo(int64_t a, int64_t b) {
  checkDivisor(a, b);
  const int64_t rest = a % b;
  return rest != 0 && ((rest < 0) != (b < 0)) ? rest + b : rest;
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if (exponent & 1) result = exactly<multiplyOverflows>(result, base);
    exponent >>= 1;
    if (exponent > 0) base = exactly<multiplyOverflows>(base, base);
  }
  return result;
}

int64_t shift(int64_t value, int64_t count, bool left) {
  if (count < 0) throw failed("the program shifts an integer by a negative count");
  if (!left) return count > 63 ? (value < 0 ? -1 : 0) : value >> count;
  if (value == 0) return 0;
  return count > 62 ? throw tooLarge() : exactly<multiplyOverflows>(value, int64_t{1} << count);
}

int64_t truncated(double value) {
  constexpr double kBeyond = 9223372036854775808.0;  // 2^63
  const double cut = std::trunc(value);
  if (!(cut >= -kBeyond && cut < kBeyond)) throw tooLarge();
  return static_cast<int64_t>(cut);
}

template <typename Whole, typename Real>
IValue byType(const IValue& a, const IValue& b, Whole ofWhole, Real ofReal) {
  if (isWhole(a) && isWhole(b)) return ofWhole(whole(a), whole(b));
  return ofReal(real(a), real(b));
}

template <typename Compare>
IValue compare(const IValue& a, const IValue& b, Compare holds) {
  return byType(
      a, b, [&](int64_t x, int64_t y) -> IValue { return holds(x, y); },
      [&](double x, double y) -> IValue { return holds(x, y); });
}

double divisor(double value) { return value == 0 ? throw failed("the program divides by zero") : value; }

}  // namespace

std::optional<NumberOperator> numberOperator(std::string_view target) {
  const auto* found =
      std::find_if(std::begin(kTargets), std::end(kTargets), [&](const auto& each) { return each.first == target; });
  return found == std::end(kTargets) ? std::nullopt : std::optional(found->second);
}

size_t operandCount(NumberOperator what) {
  switch (what) {
    case Negate:
    case Positive:
    case Truncate:
    case Not:
    case ToFloat:
    case SquareRoot:
    case Absolute:
      return 1;
    case Select:
      return 3;
    default:
      return 2;
  }
}

IValue compute(NumberOperator what, c10::ArrayRef<IValue> in) {
  if (in.size() != operandCount(what)) throw failed("an operator on numbers has too few operands, or too many");
  switch (what) {
    case Add:
      return byType(in[0], in[1], exactly<addOverflows>, std::plus<double>());
    case Subtract:
      return byType(in[0], in[1], exactly<subtractOverflows>, std::minus<double>());
    case Multiply:
      return byType(in[0], in[1], exactly<multiplyOverflows>, std::multiplies<double>());
    case FloorDivide:
      return byType(in[0], in[1], floorDivide, [](double a, double b) { return std::floor(a / divisor(b)); });
    case TrueDivide:
      return real(in[0]) / divisor(real(in[1]));
    case Modulo:
      return byType(in[0], in[1], modulo, [](double a, double b) {
        const double rest = std::fmod(a, divisor(b));
        return rest != 0 && ((rest < 0) != (b < 0)) ? rest + b : rest;
      });
    case Power:
      if (isWhole(in[0]) && isWhole(in[1]) && whole(in[1]) >= 0) return power(whole(in[0]), whole(in[1]));
      return std::pow(real(in[0]), real(in[1]));
    case Negate:
      return isWhole(in[0]) ? IValue(exactly<subtractOverflows>(0, whole(in[0]))) : IValue(-real(in[0]));
    case Positive:
      return isWhole(in[0]) ? IValue(whole(in[0])) : IValue(real(in[0]));
    case Equal:
      return compare(in[0], in[1], [](auto a, auto b) { return a == b; });
    case NotEqual:
      return compare(in[0], in[1], [](auto a, auto b) { return a != b; });
    case LessEqual:
      return compare(in[0], in[1], [](auto a, auto b) { return a <= b; });
    case Less:
      return compare(in[0], in[1], [](auto a, auto b) { return a < b; });
    case GreaterEqual:
      return compare(in[0], in[1], [](auto a, auto b) { return a >= b; });
    case Greater:
      return compare(in[0], in[1], [](auto a, auto b) { return a > b; });
    case And:
      if (in[0].isBool() && in[1].isBool()) return in[0].toBool() && in[1].toBool();
      return whole(in[0]) & whole(in[1]);
    case Or:
      if (in[0].isBool() && in[1].isBool()) return in[0].toBool() || in[1].toBool();
      return whole(in[0]) | whole(in[1]);
    case ShiftLeft:
      return shift(whole(in[0]), whole(in[1]), /*left=*/true);
    case ShiftRight:
      return shift(whole(in[0]), whole(in[1]), /*left=*/false);
    case Truncate:
      return isWhole(in[0]) ? IValue(whole(in[0])) : IValue(truncated(real(in[0])));
    case Not:
      return real(in[0]) == 0;
    case ToFloat:
      return real(in[0]);
    case Select:
      return real(in[0]) != 0 ? in[1] : in[2];
    case Maximum:
      return byType(
          in[0], in[1], [](int64_t a, int64_t b) { return std::max(a, b); },
          [](double a, double b) { return std::max(a, b); });
    case Minimum:
      return byType(
          in[0], in[1], [](int64_t a, int64_t b) { return std::min(a, b); },
          [](double a, double b) { return std::min(a, b); });
    case SquareRoot:
      return std::sqrt(real(in[0]));
    case Absolute:
      if (!isWhole(in[0])) return std::abs(real(in[0]));
      return whole(in[0]) < 0 ? exactly<subtractOverflows>(0, whole(in[0])) : whole(in[0]);
  }
  throw failed("an operator on numbers that isn't known");
}

}  // namespace lta::exported
