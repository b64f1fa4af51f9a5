#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "exported/expression.h"
#include "exported/json.h"
#include "exported/pytree.h"

namespace lta::exported {

// A size, or a number, that the program was exported for.
struct Size {
  std::optional<int64_t> number;         // a fixed one
  std::optional<Expression> expression;  // of symbols; neither: any
  std::string text() const;
};

// One leaf of a program's inputs or outputs, as the file declares it.
struct Leaf {
  enum class Kind : uint8_t { Tensor, Integer, Float, Boolean, Constant };
  Kind kind = Kind::Tensor;
  std::string name;      // of the graph's value
  c10::IValue constant;  // the only value that a constant may have
  std::optional<at::ScalarType> dtype;
  std::vector<Size> sizes;
  Size value;  // of an integer
};

// The values of a symbol that the program was exported for.
struct SymbolRange {
  int64_t least = 0;
  int64_t most = INT64_MAX;
};

// What a program takes and gives: the leaves of its inputs and outputs, how they form values, and what holds between
// the inputs' sizes.
class Signature {
 public:
  // `inputs` and `outputs`: the users' leaves, in order.
  Signature(const Json& program, std::vector<Leaf> inputs, std::vector<Leaf> outputs);

  const std::vector<Leaf>& inputs() const { return inputs_; }
  const std::vector<Leaf>& outputs() const { return outputs_; }
  const Pytree& inputTree() const { return inputTree_; }  // of (args, kwargs)
  const Pytree& outputTree() const { return outputTree_; }
  const std::vector<std::string>& argumentNames() const { return argumentNames_; }  // of forward; empty if not known
  const std::map<std::string, SymbolRange>& symbols() const { return symbols_; }

  // Throws ERR_INVALID_ARGUMENT for inputs that the program wasn't exported for, by name: their types, ranks, sizes,
  // and what guards say of those.
  void check(const std::vector<c10::IValue>& inputs) const;

  // With another floating-point type for the weights, inputs have to be of that one.
  void exchangeDtype(at::ScalarType from, at::ScalarType to);

 private:
  // A condition on the inputs; its variables are parts of them, at these leaves.
  struct Guard {
    Expression condition;
    std::vector<size_t> leaves;
  };
  void readCall(const Json& module);
  void readGuards(const Json& program);
  std::optional<size_t> leafOf(const Variable& variable) const;

  std::vector<Leaf> inputs_;
  std::vector<Leaf> outputs_;
  Pytree inputTree_;
  Pytree outputTree_;
  std::vector<std::string> argumentNames_;
  std::map<std::string, SymbolRange> symbols_;
  std::vector<Guard> guards_;
};

// A leaf as a specification of an input or output names it. `tensors` and `integers`: what the graph says of its
// values.
using ValueTable = std::unordered_map<std::string_view, Json>;
// One of the tables of a graph; empty where it has none of that name.
ValueTable valuesIn(const Json& graph, const char* table);
Leaf readLeaf(const Json& argument, const ValueTable& tensors, const ValueTable& integers);
// The constant that an input was exported with.
Leaf readConstantLeaf(const Json& specification);

Size readSize(const Json& json);

}  // namespace lta::exported
