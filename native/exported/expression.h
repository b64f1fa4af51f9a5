#pragma once

#include <ATen/core/ivalue.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "exported/numbers.h"

namespace lta::exported {

// Part of an input's path: the name of an argument or a field, or a position.
using PathStep = std::variant<std::string, int64_t>;

// What an expression refers to: a symbol by its name, or, in a guard, a part of an input.
struct Variable {
  std::string symbol;                // empty for a part of an input
  std::vector<PathStep> path;        // L['x'][0] is {"x", 0}
  std::optional<int64_t> dimension;  // with .size()[i]
};

// An expression on numbers as the format writes it. Sizes are calls, "Mul(Integer(2), Symbol('s0', positive=True))",
// guards Python, "2*L['x'].size()[1] >= 4".
class Expression {
 public:
  // None for what can't be evaluated: a function that isn't known, text that is no such expression.
  static std::optional<Expression> parse(std::string_view text);

  // Its value where `valueOf` knows that of every variable; none where it doesn't. Throws as `compute`.
  using ValueOf = std::function<std::optional<c10::IValue>(const Variable&)>;
  std::optional<c10::IValue> evaluate(const ValueOf& valueOf) const;

  const std::vector<Variable>& variables() const { return variables_; }
  // The symbol that it is, where it is nothing but that.
  const std::string* symbol() const;
  // As users read it: "2*s0".
  std::string text() const;

 private:
  friend class ExpressionParser;
  // One step of a machine with a stack: pushes a constant or a variable, or replaces operands by a result.
  struct Step {
    c10::IValue constant;
    int variable = -1;
    std::optional<NumberOperator> what;
  };
  std::vector<Step> steps_;
  std::vector<Variable> variables_;
};

}  // namespace lta::exported
