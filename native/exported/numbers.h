#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <optional>
#include <string_view>

// Python's operators on numbers: those of a graph's nodes, and of the expressions in its sizes and guards.
namespace lta::exported {

enum class NumberOperator : uint8_t {
  Add,
  Subtract,
  Multiply,
  FloorDivide,
  TrueDivide,
  Modulo,
  Power,
  Negate,
  Positive,
  Equal,
  NotEqual,
  LessEqual,
  Less,
  GreaterEqual,
  Greater,
  And,
  Or,
  ShiftLeft,
  ShiftRight,
  Truncate,
  Not,
  ToFloat,
  Select,
  Maximum,
  Minimum,
  SquareRoot,
  Absolute,
};

// The operator that a node's target names ("_operator.add", "torch.sym_max"); none for another.
std::optional<NumberOperator> numberOperator(std::string_view target);

size_t operandCount(NumberOperator what);

// The value that Python gives for as many operands as the operator has, each a number or a boolean. Throws
// ERR_MODEL_RUN for others, and where the value is none (a division by zero) or no integer of 64 bits.
c10::IValue compute(NumberOperator what, c10::ArrayRef<c10::IValue> operands);

}  // namespace lta::exported
