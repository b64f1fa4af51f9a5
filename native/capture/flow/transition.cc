#include "capture/flow/flow.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "capture/flow/dimensions.h"
#include "capture/flow/elements.h"
#include "torch/own_computation.h"

namespace lta::flow {
namespace {

bool isNonnegative(Kind kind) { return kind != Kind::Signed; }

// Whether no weight that a function gives is more than one.
bool atMostOne(const std::string& function) { return function == "softmax" || function == "sigmoid"; }

// Whether a power keeps the sign.
bool isOdd(const Call& call) {
  const auto exponent = call.argument("exponent");
  const auto number = exponent ? numberOf(*exponent) : std::nullopt;
  return number && std::fmod(std::abs(*number), 2.0) == 1.0;
}

// Whether zeros take the place of whole rows of a softmax, as where everything is masked.
bool clearsRows(const Call& call, const at::Tensor& weights, int64_t keys) {
  if (call.name != "where" && call.name != "masked_fill") return false;
  const auto chosen = call.tensor(call.name == "where" ? 0 : 1);
  if (!chosen.defined() || chosen.scalar_type() != at::kBool) return false;
  const auto there = chosen.dim() - (weights.dim() - keys);
  if (there >= 0 && chosen.size(there) > 1) return false;
  if (const auto value = call.argument("value"); value && numberOf(*value)) return *numberOf(*value) == 0;
  const auto filled = call.tensor(call.tensor(1).is_same(weights) ? 2 : 1);
  if (!filled.defined()) return false;
  const OwnComputation own;
  return !filled.ne(0).any().item<bool>();
}

}  // namespace

// What an operator makes of scores or weights, element by element. None where what it gives isn't followed.
ValuePtr Flow::after(const Call& call, const Operand& source, const at::Tensor& result,
                     std::optional<Kind> otherWeights) {
  const auto& before = source.value();
  auto does = call.rule.does;
  // Decompositions subtract weights from a number as from a tensor.
  if (does == Does::Subtracts && !call.tensor(0).is_same(source.tensor)) does = Does::SubtractsFrom;
  auto value = std::make_shared<Value>(before);
  if (does == Does::Copies) {
    const bool rounds = call.name.starts_with("quantize");
    if (call.name == "to" || rounds) value->last = std::make_shared<Step>(call.name, before.last);
    if (rounds && value->stage == Stage::Weights) {
      value->kind = loosened(value->kind);
      value->normalized = kNone;
      value->version = ++versions_;
    }
    return value;
  }
  value->last = std::make_shared<Step>(call.name, before.last);
  value->version = ++versions_;
  value->normalized = kNone;
  value->unshifted = 0;
  value->lessLogSum = kNone;
  const auto& matrix = source.matrix();

  // The operand beside it: a number, or a tensor.
  const bool fills = does == Does::Masks || does == Does::Scatters;
  const auto filled = fills ? call.argument("value") : std::nullopt;
  std::optional<double> number = filled ? numberOf(*filled) : std::nullopt;
  at::Tensor other;
  bool first = true;
  for (size_t place = 0; place < call.arguments.size(); ++place) {
    const auto& argument = call.arguments[place];
    if (argument.isTensor() && argument.toTensor().is_same(source.tensor) && first) {
      first = false;
      continue;
    }
    if (!number && !filled) number = numberOf(argument);
    if (!other.defined() && argument.isTensor() && argument.toTensor().dim() > 0) other = argument.toTensor();
  }
  const auto* beside = other.defined() ? find(other) : nullptr;
  const auto normalizes = [&](Does reduction) {
    if (!beside || !beside->reduced || beside->reduced->does != reduction) return false;
    const auto& others = beside->reduced->others;
    return beside->reduced->matrix == before.matrix ||
           std::find(others.begin(), others.end(), before.matrix) != others.end();
  };
  // Whether the other tensor tells queries and keys apart, one by one.
  const auto isMask = [&] {
    if (!other.defined() || otherWeights) return false;
    int64_t told = 0;
    for (int64_t dim = 0; dim < result.dim(); ++dim) {
      const auto here = aligned(source.tensor, result, dim), there = aligned(other, result, dim);
      if (here < 0 || there < 0 || other.size(there) < 2) continue;
      for (const auto& component : source.view->dims[static_cast<size_t>(here)]) {
        const auto of = component.span.dim;
        if (of != kForeign && matrix.roles[static_cast<size_t>(of)] == Role::Free) ++told;
      }
    }
    return told > 1;
  };
  const auto weights = [&](Kind kind, const std::string& operatorName) -> ValuePtr {
    const bool isLayer = matrix.fixed != kNone && !matrix.generated;
    if (isLayer || matrix.outer) return nullptr;  // a layer and its activation
    value->stage = Stage::Weights;
    value->kind = kind;
    value->operatorName = operatorName;
    value->module = modules_.current();
    if (operatorName == call.name) value->last.reset();
    return value;
  };

  if (before.stage == Stage::Scores) {
    // What an outer product adds to a memory of its size, or leaves of it, is that memory.
    const bool combines =
        does == Does::Scales || does == Does::Adds || does == Does::Subtracts || does == Does::SubtractsFrom;
    if (combines && matrix.overOne && !matrix.outer && isMask() && (does == Does::Scales || !isFixed(other)))
      return nullptr;
    switch (does) {
      case Does::Scales:
        if (call.tensor(0).is_same(call.tensor(1))) return weights(Kind::Unnormalized, call.name);
        // What is divided by scores, element by element, isn't scaled by them: factors are, in their updates.
        if (call.divides() && !call.tensor(0).is_same(source.tensor) && isMask()) return nullptr;
        if (!matrix.outer && (isMask() || normalizes(Does::Sums))) return weights(Kind::Signed, matrix.operatorName);
        return value;
      case Does::Masks: {
        if (call.name == "dropout" || call.name == "native_dropout") return value;
        const bool cuts = call.name == "tril" || call.name == "triu";
        if (!cuts && (!number || *number < -100)) return value;  // hidden from a softmax to come
        return weights(Kind::Signed, matrix.operatorName);
      }
      case Does::Clamps: {
        const auto least = call.argument("min");
        const auto bound = least ? numberOf(*least) : std::nullopt;
        return bound && *bound == 0 ? weights(Kind::Relu, call.name) : value;
      }
      case Does::Subtracts:
        if (normalizes(Does::LogSums) && beside->reduced->exponentOf == before.version) {
          value->lessLogSum = beside->reduced->dim;
        } else if (normalizes(Does::Extremes) && beside->reduced->version == before.version) {
          value->unshifted = before.version;
        }
        return value;
      case Does::Exponentiates: {
        const auto summed = before.lessLogSum;
        const auto made = weights(summed == kNone ? Kind::Unnormalized : Kind::Softmax, call.name);
        value->exponential = summed == kNone;
        value->normalized = summed;
        value->exponentOf = before.version;
        value->unshifted = before.unshifted;
        return made;
      }
      case Does::Powers:
        return weights(isOdd(call) ? Kind::Signed : Kind::Unnormalized, call.name);
      case Does::Sigmoid:
        return weights(Kind::Sigmoid, call.name);
      case Does::Relu:
        return weights(Kind::Relu, call.name);
      case Does::KeepsSign:
      case Does::Bends:
        return call.name == "neg" ? value
                                  : weights(call.name == "softplus" ? Kind::Unnormalized : Kind::Signed, call.name);
      case Does::Logarithms:
        return nullptr;
      default:
        return value;
    }
  }
  if (before.stage == Stage::Log) {
    if (does == Does::Exponentiates) {
      value->stage = Stage::Weights;
      if (before.kind == Kind::Softmax) value->normalized = before.normalized;
    } else if (does != Does::Masks) {
      value->kind = Kind::Unnormalized;
    }
    return value;
  }

  auto& kind = value->kind;
  int64_t keys = kNone;  // the dimension along which rows add up to one
  for (int64_t dim = 0; dim < source.tensor.dim() && before.normalized != kNone; ++dim) {
    if (source.view->has(dim, before.normalized)) keys = dim;
  }
  const bool isSoftmax = kind == Kind::Softmax && keys != kNone;
  switch (does) {
    case Does::Scales:
      if (normalizes(Does::Sums)) {
        // Rows add up to one if what is divided is what was summed.
        const bool exact = beside->reduced->exact && beside->reduced->version == before.version;
        value->normalized = exact ? beside->reduced->dim : kNone;
        value->exponential = false;
        if (isNonnegative(kind)) kind = exact ? Kind::Softmax : Kind::Unnormalized;
      } else {
        const bool negative = (number && *number < 0) || (otherWeights && !isNonnegative(*otherWeights)) ||
                              (other.defined() && !otherWeights && hasNegative(other));
        kind = negative ? Kind::Signed : loosened(kind);
      }
      break;
    case Does::Adds: {
      // One minus weights, as scripts say it.
      const auto* step = before.last.get();
      const bool negated = step && step->operatorName() == "neg" && !step->before() && atMostOne(before.operatorName);
      if (negated && !other.defined() && !otherWeights && number && *number >= 1) {
        kind = Kind::Unnormalized;
        break;
      }
      kind = isNonnegative(kind) &&
                     (otherWeights ? isNonnegative(*otherWeights) : !other.defined() && number && *number >= 0)
                 ? Kind::Unnormalized
                 : Kind::Signed;
      break;
    }
    case Does::Subtracts:
      kind = Kind::Signed;
      break;
    case Does::SubtractsFrom:
      kind =
          !other.defined() && !otherWeights && number && *number >= 1 && !before.last && atMostOne(before.operatorName)
              ? Kind::Unnormalized
              : Kind::Signed;
      break;
    case Does::Masks:
    case Does::Scatters: {
      if (does == Does::Masks && isSoftmax && clearsRows(call, source.tensor, keys)) {
        value->normalized = before.normalized;
        break;
      }
      const bool unknown = does == Does::Scatters && !filled;  // tensors are written into it
      const bool negative = (filled && number && *number < 0) || (otherWeights && !isNonnegative(*otherWeights));
      kind = unknown || negative ? Kind::Signed : loosened(kind);
      break;
    }
    case Does::Clamps: {
      const auto least = call.argument("min");
      const auto bound = least ? numberOf(*least) : std::nullopt;
      kind = kind == Kind::Signed && !(bound && *bound >= 0) ? Kind::Signed : Kind::Unnormalized;
      break;
    }
    case Does::Powers:
      if (isNonnegative(kind) || !isOdd(call)) kind = kind == Kind::Relu ? kind : Kind::Unnormalized;
      break;
    case Does::KeepsSign:
      kind = isNonnegative(kind) ? Kind::Unnormalized : Kind::Signed;
      break;
    case Does::Exponentiates:
    case Does::Sigmoid:
    case Does::Relu:
    case Does::Accumulates:
      kind = does == Does::Accumulates && kind == Kind::Signed ? kind : Kind::Unnormalized;
      break;
    case Does::Logarithms:
      value->stage = Stage::Log;
      kind = Kind::Unnormalized;
      break;
    default:
      kind = Kind::Signed;
  }
  if (does != Does::Scales && does != Does::Masks && does != Does::Adds) value->exponential = false;
  return value;
}

}  // namespace lta::flow
