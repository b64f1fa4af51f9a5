#include "exported/expression.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <sstream>
#include <utility>

namespace lta::exported {
namespace {

using c10::IValue;
using enum NumberOperator;

// How deep an expression may be: reading one calls itself.
constexpr int kMaxDepth = 100;
constexpr size_t kMaxText = 64 * 1024;

struct Function {
  std::string_view name;
  NumberOperator what;
  bool folds;  // of any number of arguments, from the left
};

constexpr Function kFunctions[] = {
    {"Add", Add, true},
    {"Mul", Multiply, true},
    {"Max", Maximum, true},
    {"Min", Minimum, true},
    {"max", Maximum, true},
    {"min", Minimum, true},
    {"And", And, true},
    {"Or", Or, true},
    {"FloorDiv", FloorDivide, false},
    {"CleanDiv", FloorDivide, false},
    {"IntTrueDiv", TrueDivide, false},
    {"FloatTrueDiv", TrueDivide, false},
    {"Mod", Modulo, false},
    {"PythonMod", Modulo, false},
    {"Pow", Power, false},
    {"PowByNatural", Power, false},
    {"FloatPow", Power, false},
    {"LShift", ShiftLeft, false},
    {"RShift", ShiftRight, false},
    {"Equality", Equal, false},
    {"Eq", Equal, false},
    {"Unequality", NotEqual, false},
    {"Ne", NotEqual, false},
    {"StrictGreaterThan", Greater, false},
    {"Gt", Greater, false},
    {"GreaterThan", GreaterEqual, false},
    {"Ge", GreaterEqual, false},
    {"StrictLessThan", Less, false},
    {"Lt", Less, false},
    {"LessThan", LessEqual, false},
    {"Le", LessEqual, false},
    {"Not", Not, false},
    {"ToFloat", ToFloat, false},
    {"float", ToFloat, false},
    {"TruncToInt", Truncate, false},
    {"int", Truncate, false},
    {"Abs", Absolute, false},
    {"abs", Absolute, false},
    {"OpaqueUnaryFn_sqrt", SquareRoot, false},
    {"Where", Select, false},
};

struct Infix {
  std::string_view text;
  NumberOperator what;
  int binding;  // operators with more of it are evaluated first
};

// Longer ones before those that they begin with.
constexpr Infix kInfix[] = {
    {"or", Or, 1},         {"and", And, 2},      {"==", Equal, 4},        {"!=", NotEqual, 4}, {"<<", ShiftLeft, 7},
    {">>", ShiftRight, 7}, {"<=", LessEqual, 4}, {">=", GreaterEqual, 4}, {"<", Less, 4},      {">", Greater, 4},
    {"|", Or, 5},          {"&", And, 6},        {"+", Add, 8},           {"-", Subtract, 8},  {"//", FloorDivide, 9},
    {"/", TrueDivide, 9},  {"%", Modulo, 9},     {"**", Power, 11},       {"*", Multiply, 9},
};
constexpr int kNotBinding = 3;
constexpr int kComparison = 4;
constexpr int kSignBinding = 10;
constexpr int kOperandBinding = 12;

// Thrown and caught here: the text is no expression that can be evaluated.
struct Unreadable : std::exception {};

bool isWord(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

}  // namespace

class ExpressionParser {
 public:
  explicit ExpressionParser(std::string_view text) : text_(text) {}

  Expression parse() {
    if (text_.size() > kMaxText) throw Unreadable();
    operation(0, 0);
    skipSpace();
    if (at_ != text_.size()) throw Unreadable();
    return std::move(result_);
  }

 private:
  void skipSpace() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  bool take(std::string_view token) {
    skipSpace();
    if (text_.compare(at_, token.size(), token) != 0) return false;
    const bool word = isWord(token.back());
    if (word && at_ + token.size() < text_.size() && isWord(text_[at_ + token.size()])) return false;
    at_ += token.size();
    return true;
  }

  void expect(std::string_view token) {
    if (!take(token)) throw Unreadable();
  }

  std::string_view word() {
    skipSpace();
    const size_t from = at_;
    while (at_ < text_.size() && isWord(text_[at_])) ++at_;
    return text_.substr(from, at_ - from);
  }

  std::string quoted() {
    skipSpace();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) throw Unreadable();
    const char quote = text_[at_++];
    const size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) throw Unreadable();
    const auto inside = text_.substr(at_, end - at_);
    if (inside.find('\\') != std::string_view::npos) throw Unreadable();
    at_ = end + 1;
    return std::string(inside);
  }

  template <typename Number>
  Number number() {
    Number value{};
    skipSpace();
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc()) throw Unreadable();
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }

  void push(IValue constant) { result_.steps_.push_back({std::move(constant), -1, std::nullopt}); }
  void operate(NumberOperator what) { result_.steps_.push_back({{}, -1, what}); }
  void push(Variable variable) {
    result_.variables_.push_back(std::move(variable));
    result_.steps_.push_back({{}, static_cast<int>(result_.variables_.size() - 1), std::nullopt});
  }

  // Operands and operators that bind at least as strongly.
  void operation(int binding, int depth) {
    if (depth > kMaxDepth) throw Unreadable();
    if (binding <= kNotBinding && take("not")) {
      operation(kNotBinding, depth + 1);
      operate(Not);
    } else if (take("-")) {
      operation(kSignBinding, depth + 1);
      operate(Negate);
    } else {
      operand(depth + 1);
    }
    bool compared = false;
    while (true) {
      const auto* infix = std::find_if(std::begin(kInfix), std::end(kInfix), [&](const Infix& each) {
        const size_t before = at_;
        const bool taken = take(each.text);
        if (taken && each.binding < binding) at_ = before;
        return taken;
      });
      if (infix == std::end(kInfix) || infix->binding < binding) return;
      if (infix->binding == kComparison && std::exchange(compared, true)) throw Unreadable();  // a < b < c
      // From the left, but for powers.
      operation(infix->what == Power ? kSignBinding : infix->binding + 1, depth + 1);
      operate(infix->what);
    }
  }

  void operand(int depth) {
    if (take("(")) {
      operation(0, depth + 1);
      return expect(")");
    }
    skipSpace();
    if (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      const size_t before = at_;
      const auto whole = number<int64_t>();
      if (at_ >= text_.size() || (text_[at_] != '.' && text_[at_] != 'e')) return push(IValue(whole));
      at_ = before;
      return push(IValue(number<double>()));
    }
    const auto name = word();
    if (name == "True" || name == "true") return push(IValue(true));
    if (name == "False" || name == "false") return push(IValue(false));
    if (name == "L") return input();
    expect("(");
    if (name == "Symbol") return symbol();
    if (name == "Integer" || name == "Float") return constant(name == "Float");
    call(name, depth);
  }

  // Symbol('s0', positive=True, integer=True)
  void symbol() {
    push(Variable{quoted(), {}, std::nullopt});
    while (!take(")")) {
      expect(",");
      word();
      expect("=");
      word();
    }
  }

  // Integer(2), Float('1.5', precision=53)
  void constant(bool real) {
    if (!real) {
      push(IValue(number<int64_t>()));
      return expect(")");
    }
    std::string inside = quoted();
    double value = 0;
    const auto [end, error] = std::from_chars(inside.data(), inside.data() + inside.size(), value);
    if (error != std::errc() || end != inside.data() + inside.size()) throw Unreadable();
    push(IValue(value));
    while (!take(")")) {
      expect(",");
      word();
      expect("=");
      word();
    }
  }

  void call(std::string_view name, int depth) {
    const auto* function = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                        [&](const Function& each) { return each.name == name; });
    if (function == std::end(kFunctions)) throw Unreadable();
    size_t count = 0;
    do {
      operation(0, depth + 1);
      if (++count > 1 && function->folds) operate(function->what);
    } while (take(","));
    expect(")");
    if (function->folds) return;
    if (count != operandCount(function->what)) throw Unreadable();
    operate(function->what);
  }

  // L['x'][0].field.size()[1]
  void input() {
    Variable variable;
    while (true) {
      if (take("[")) {
        skipSpace();
        if (at_ < text_.size() && (text_[at_] == '\'' || text_[at_] == '"')) {
          variable.path.emplace_back(quoted());
        } else {
          variable.path.emplace_back(number<int64_t>());
        }
        expect("]");
      } else if (take(".")) {
        const auto name = word();
        if (name == "size" && take("(")) {
          expect(")");
          expect("[");
          variable.dimension = number<int64_t>();
          expect("]");
          break;
        }
        if (name.empty()) throw Unreadable();
        variable.path.emplace_back(std::string(name));
      } else {
        break;
      }
    }
    if (variable.path.empty()) throw Unreadable();
    push(std::move(variable));
  }

  const std::string_view text_;
  size_t at_ = 0;
  Expression result_;
};

std::optional<Expression> Expression::parse(std::string_view text) {
  try {
    return ExpressionParser(text).parse();
  } catch (const Unreadable&) {
    return std::nullopt;
  }
}

std::optional<IValue> Expression::evaluate(const ValueOf& valueOf) const {
  std::vector<IValue> stack;
  for (const auto& step : steps_) {
    if (step.what) {
      const size_t count = operandCount(*step.what);
      auto result = compute(*step.what, c10::ArrayRef<IValue>(stack).slice(stack.size() - count, count));
      stack.resize(stack.size() - count);
      stack.push_back(std::move(result));
    } else if (step.variable >= 0) {
      auto value = valueOf(variables_[static_cast<size_t>(step.variable)]);
      if (!value) return std::nullopt;
      stack.push_back(std::move(*value));
    } else {
      stack.push_back(step.constant);
    }
  }
  return stack.back();
}

const std::string* Expression::symbol() const {
  return steps_.size() == 1 && variables_.size() == 1 && !variables_[0].symbol.empty() ? &variables_[0].symbol
                                                                                       : nullptr;
}

namespace {

std::string textOf(const Variable& variable) {
  if (!variable.symbol.empty()) return variable.symbol;
  std::string text;
  for (const auto& step : variable.path) {
    if (const auto* name = std::get_if<std::string>(&step)) {
      text += (text.empty() ? "" : ".") + *name;
    } else {
      text += "[" + std::to_string(std::get<int64_t>(step)) + "]";
    }
  }
  return variable.dimension ? text + ".shape[" + std::to_string(*variable.dimension) + "]" : text;
}

}  // namespace

std::string Expression::text() const {
  struct Part {
    std::string text;
    int binding;
  };
  const auto enclosed = [](const Part& part, int binding) {
    return part.binding < binding ? "(" + part.text + ")" : part.text;
  };
  std::vector<Part> stack;
  for (const auto& step : steps_) {
    if (!step.what) {
      std::ostringstream text;
      if (step.variable >= 0) {
        text << textOf(variables_[static_cast<size_t>(step.variable)]);
      } else {
        text << step.constant;
      }
      stack.push_back({text.str(), kOperandBinding});
      continue;
    }
    const size_t count = operandCount(*step.what);
    const std::vector<Part> operands(stack.end() - static_cast<int64_t>(count), stack.end());
    stack.resize(stack.size() - count);
    const auto* infix =
        std::find_if(std::begin(kInfix), std::end(kInfix), [&](const Infix& each) { return each.what == *step.what; });
    if (*step.what == Negate) {
      stack.push_back({"-" + enclosed(operands[0], kSignBinding), kSignBinding});
    } else if (*step.what == Not) {
      stack.push_back({"not " + enclosed(operands[0], kNotBinding), kNotBinding});
    } else if (infix != std::end(kInfix)) {
      const bool spaced = infix->binding < 9;
      stack.push_back({enclosed(operands[0], infix->binding) + (spaced ? " " : "") + std::string(infix->text) +
                           (spaced ? " " : "") + enclosed(operands[1], infix->binding + 1),
                       infix->binding});
    } else {
      const auto* function = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                          [&](const Function& each) { return each.what == *step.what; });
      std::string text = std::string(function == std::end(kFunctions) ? "?" : function->name) + "(";
      for (size_t i = 0; i < operands.size(); ++i) text += (i ? ", " : "") + operands[i].text;
      stack.push_back({text + ")", kOperandBinding});
    }
  }
  return stack.back().text;
}

}  // namespace lta::exported
