#include "exported/signature.h"

#include <cmath>
#include <sstream>
#include <utility>

#include "exported/schema.h"

namespace lta::exported {
namespace {

using c10::IValue;
using Kind = Leaf::Kind;

// Sizes of 0 and 1 are left out of every range that an exporter finds: only a range from above is one that was asked
// for.
constexpr int64_t kUnaskedLeast = 2;

std::string nameOf(at::ScalarType type) { return std::string(c10::getDtypeNames(type).first); }

std::string shapeOf(const at::Tensor& tensor) {
  std::string text = "[";
  for (int64_t d = 0; d < tensor.dim(); ++d) text += (d ? ", " : "") + std::to_string(tensor.size(d));
  return text + "]";
}

std::string shapeOf(const Leaf& leaf) {
  std::string text = "[";
  for (size_t d = 0; d < leaf.sizes.size(); ++d) text += (d ? ", " : "") + leaf.sizes[d].text();
  return text + "]";
}

std::string textOf(const IValue& value) {
  if (value.isNone()) return "null";
  if (value.isString()) return "'" + value.toStringRef() + "'";
  if (value.isBool()) return value.toBool() ? "true" : "false";
  std::ostringstream text;
  if (value.isDouble()) {
    text << value.toDouble();  // 2, where libtorch writes 2.
  } else {
    text << value;
  }
  return text.str();
}

// A type with its article.
std::string anOf(at::ScalarType type) {
  const auto name = nameOf(type);
  return (name.starts_with("int") ? "an " : "a ") + name;
}

std::string describe(const Leaf& leaf) {
  return (leaf.dtype ? anOf(*leaf.dtype) : std::string("a")) + " tensor of shape " + shapeOf(leaf);
}

Error mismatch(const std::string& expected, const Leaf& leaf, const std::string& received) {
  return Error("ERR_INVALID_ARGUMENT",
               "Expected " + expected + " for input '" + leaf.name + "' but received " + received);
}

// The values of symbols that the inputs of one run tell.
class Binding {
 public:
  explicit Binding(const std::map<std::string, SymbolRange>& ranges) : ranges_(ranges) {}

  // Sizes that are a symbol, or fixed, are looked at at once, others when all inputs have been.
  void add(const Leaf& leaf, std::optional<int64_t> dimension, const Size& size, int64_t actual) {
    if (size.number && *size.number != actual) fail(leaf, dimension, std::to_string(*size.number), actual);
    if (!size.expression) return;
    if (const auto* symbol = size.expression->symbol()) {
      bind(*symbol, {&leaf, dimension, &size, actual});
    } else {
      compound_.push_back({&leaf, dimension, &size, actual});
    }
  }

  void checkCompound() {
    for (const auto& each : compound_) solve(each);
    for (const auto& each : compound_) {
      std::optional<IValue> value;
      try {
        value = each.size->expression->evaluate([this](const Variable& variable) { return valueOf(variable); });
      } catch (const Error&) {
        fail(*each.leaf, each.dimension, each.size->text(), each.actual);
      }
      if (!value || !value->isInt() || value->toInt() == each.actual) continue;
      fail(*each.leaf, each.dimension, each.size->text() + " = " + std::to_string(value->toInt()), each.actual);
    }
  }

 private:
  struct Met {
    const Leaf* leaf;
    std::optional<int64_t> dimension;
    const Size* size;
    int64_t actual;
  };

  [[noreturn]] static void fail(const Leaf& leaf, std::optional<int64_t> dimension, const std::string& expected,
                                int64_t actual) {
    const auto what = dimension ? "size " + expected + " in dimension " + std::to_string(*dimension) : expected;
    throw mismatch(what, leaf, std::to_string(actual));
  }

  void bind(const std::string& symbol, const Met& met) {
    const auto [found, isNew] = values_.emplace(symbol, met);
    if (!isNew) {
      if (found->second.actual == met.actual) return;
      fail(*met.leaf, met.dimension,
           std::to_string(found->second.actual) + " (" + symbol + ", as in input '" + found->second.leaf->name + "')",
           met.actual);
    }
    const auto range = ranges_.find(symbol);
    if (range == ranges_.end()) return;
    const auto [least, most] = range->second;
    if ((least <= kUnaskedLeast || met.actual >= least) && met.actual <= most) return;
    fail(*met.leaf, met.dimension,
         symbol + " from " + std::to_string(least) +
             (most == INT64_MAX ? std::string(" up") : " to " + std::to_string(most)),
         met.actual);
  }

  std::optional<IValue> valueOf(const Variable& variable) const {
    const auto found = values_.find(variable.symbol);
    return found == values_.end() ? std::nullopt : std::optional(IValue(found->second.actual));
  }

  // A symbol that no size is by itself: where the size is a linear expression of it alone, that tells it.
  void solve(const Met& met) {
    const Variable* unknown = nullptr;
    for (const auto& variable : met.size->expression->variables()) {
      if (values_.count(variable.symbol)) continue;
      if (unknown && unknown->symbol != variable.symbol) return;
      unknown = &variable;
    }
    if (!unknown) return;
    const auto at = [&](int64_t value) -> std::optional<int64_t> {
      try {
        const auto result = met.size->expression->evaluate([&](const Variable& variable) {
          return variable.symbol == unknown->symbol ? std::optional(IValue(value)) : valueOf(variable);
        });
        return result && result->isInt() ? std::optional(result->toInt()) : std::nullopt;
      } catch (const Error&) {
        return std::nullopt;
      }
    };
    constexpr int64_t kFar = 1000;
    const auto first = at(1), second = at(2), far = at(kFar);
    if (!first || !second || !far || *first == *second) return;
    const int64_t slope = *second - *first;
    int64_t line = 0, rest = 0;
    if (__builtin_mul_overflow(slope, kFar - 1, &line) || __builtin_add_overflow(line, *first, &line) || line != *far ||
        __builtin_sub_overflow(met.actual, *first, &rest)) {
      return;
    }
    if (rest % slope != 0) fail(*met.leaf, met.dimension, met.size->text(), met.actual);
    bind(unknown->symbol, {met.leaf, met.dimension, met.size, rest / slope + 1});
  }

  const std::map<std::string, SymbolRange>& ranges_;
  std::map<std::string, Met> values_;
  std::vector<Met> compound_;
};

void checkLeaf(const Leaf& leaf, const IValue& value, Binding& binding) {
  switch (leaf.kind) {
    case Kind::Tensor: {
      if (!value.isTensor()) throw mismatch(describe(leaf), leaf, "another value");
      const auto& tensor = value.toTensor();
      const auto received = anOf(tensor.scalar_type()) + " one of " + shapeOf(tensor);
      if (leaf.dtype && tensor.scalar_type() != *leaf.dtype) throw mismatch(describe(leaf), leaf, received);
      if (tensor.dim() != static_cast<int64_t>(leaf.sizes.size())) throw mismatch(describe(leaf), leaf, received);
      for (int64_t d = 0; d < tensor.dim(); ++d) {
        binding.add(leaf, d, leaf.sizes[static_cast<size_t>(d)], tensor.size(d));
      }
      return;
    }
    case Kind::Integer:
      if (!value.isInt()) throw mismatch("an integer", leaf, textOf(value));
      return binding.add(leaf, std::nullopt, leaf.value, value.toInt());
    case Kind::Float:
    case Kind::Boolean:
      return;  // the types of the schema say it all
    case Kind::Constant:
      break;
  }
  const auto& constant = leaf.constant;
  const bool both = value.isDouble() && constant.isDouble();
  const bool same = constant.isNone() ? value.isNone()
                    : both            ? value.toDouble() == constant.toDouble() ||
                                            (std::isnan(value.toDouble()) && std::isnan(constant.toDouble()))
                                      : value == constant;
  if (!same) throw mismatch(textOf(constant) + ", which the program was exported for,", leaf, textOf(value));
}

}  // namespace

std::string Size::text() const {
  if (number) return std::to_string(*number);
  return expression ? expression->text() : "any";
}

Size readSize(const Json& json) {
  const auto [kind, value] = json.only();
  Size size;
  if (kind == "as_int") {
    size.number = value.integer();
  } else if (kind == "as_expr") {
    size.expression = Expression::parse(value.at("expr_str").text());
  } else {
    throw broken("it has a size of the kind " + shown(kind));
  }
  return size;
}

namespace {

Leaf constantLeaf(IValue value) {
  Leaf leaf;
  leaf.kind = Kind::Constant;
  leaf.constant = std::move(value);
  return leaf;
}

}  // namespace

Leaf readConstantLeaf(const Json& specification) {
  const auto [kind, value] = specification.at("value").only();
  Leaf leaf;
  if (kind == "as_none") {
    leaf = constantLeaf({});
  } else if (kind == "as_int") {
    leaf = constantLeaf(value.integer());
  } else if (kind == "as_float") {
    leaf = constantLeaf(value.number());
  } else if (kind == "as_bool") {
    leaf = constantLeaf(value.boolean());
  } else if (kind == "as_string") {
    leaf = constantLeaf(value.string());
  } else {
    throw broken("it has an input of the kind " + shown(kind));
  }
  leaf.name = specification.at("name").string();
  return leaf;
}

ValueTable valuesIn(const Json& graph, const char* table) {
  ValueTable values;
  if (const auto found = graph.find(table)) {
    for (const auto& [name, value] : found->members()) values.emplace(name, value);
  }
  return values;
}

Leaf readLeaf(const Json& argument, const ValueTable& tensors, const ValueTable& integers) {
  const auto [kind, value] = argument.only();
  Leaf leaf;
  if (kind == "as_tensor") {
    leaf.name = value.at("name").string();
    const auto found = tensors.find(leaf.name);
    if (found == tensors.end()) throw broken("nothing tells of the tensor " + shown(leaf.name));
    leaf.dtype = scalarType(found->second.at("dtype"));
    for (const auto& size : found->second.at("sizes").elements()) leaf.sizes.push_back(readSize(size));
    return leaf;
  }
  if (kind == "as_none") return constantLeaf({});
  if (kind == "as_int") return constantLeaf(value.integer());
  if (kind == "as_float") return constantLeaf(value.number());
  if (kind == "as_bool") return constantLeaf(value.boolean());
  if (kind == "as_string") return constantLeaf(value.string());
  if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") {
    const auto [form, inner] = value.only();
    if (form == "as_int") return constantLeaf(inner.integer());
    if (form == "as_float") return constantLeaf(inner.number());
    if (form == "as_bool") return constantLeaf(inner.boolean());
    leaf.kind = kind == "as_sym_int" ? Kind::Integer : kind == "as_sym_float" ? Kind::Float : Kind::Boolean;
    leaf.name = inner.string();
    if (const auto found = integers.find(leaf.name); leaf.kind == Kind::Integer && found != integers.end()) {
      leaf.value = readSize(found->second);
    }
    return leaf;
  }
  throw Error("ERR_UNSUPPORTED_FILE", "it has an input or output of the kind " + shown(kind) +
                                          ", which isn't served (objects of custom classes exist in Python or their "
                                          "own library only)");
}

Signature::Signature(const Json& program, std::vector<Leaf> inputs, std::vector<Leaf> outputs)
    : inputs_(std::move(inputs)), outputs_(std::move(outputs)) {
  for (const auto& [name, range] : program.at("range_constraints").members()) {
    // Terms of symbols have ranges as well, which follow from theirs.
    if (name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != name.npos)
      continue;
    SymbolRange read;
    if (const auto least = range.find("min_val")) read.least = least->integer();
    if (const auto most = range.find("max_val")) read.most = most->integer();
    symbols_.emplace(name, read);
  }
  readCall(program.at("graph_module"));
  readGuards(program);
}

void Signature::readCall(const Json& module) {
  const auto namedTuples = module.find("treespec_namedtuple_fields");
  bool found = false;
  for (const auto& entry : module.at("module_call_graph").elements()) {
    if (!entry.at("fqn").text().empty()) continue;
    const auto call = entry.find("signature");
    if (!call) break;
    found = true;
    inputTree_ = readPytree(call->at("in_spec").text(), namedTuples);
    outputTree_ = readPytree(call->at("out_spec").text(), namedTuples);
    if (const auto names = call->find("forward_arg_names")) {
      for (const auto& name : names->elements()) argumentNames_.push_back(name.string());
    }
    break;
  }
  if (!found) throw broken("nothing tells how its inputs and outputs form values");
  if (inputTree_.kind != Pytree::Kind::Sequence || inputTree_.children.size() != 2 ||
      inputTree_.children[0].kind != Pytree::Kind::Sequence || inputTree_.children[1].kind != Pytree::Kind::Mapping) {
    throw broken("its inputs aren't positional and keyword arguments");
  }
  if (inputTree_.leafCount != inputs_.size() || outputTree_.leafCount != outputs_.size()) {
    throw broken("its inputs or outputs are more, or fewer, than form values");
  }
}

// What a guard says of an input is checked where it can be: Python evaluates them itself, and so may know more.
void Signature::readGuards(const Json& program) {
  const auto guards = program.find("guards_code");
  if (!guards) return;
  for (const auto& code : guards->elements()) {
    auto condition = Expression::parse(code.text());
    if (!condition) continue;
    Guard guard{std::move(*condition), {}};
    for (const auto& variable : guard.condition.variables()) {
      const auto leaf = leafOf(variable);
      if (!leaf) break;
      const auto& kind = inputs_[*leaf].kind;
      const bool isSize = variable.dimension && *variable.dimension >= 0 &&
                          *variable.dimension < static_cast<int64_t>(inputs_[*leaf].sizes.size());
      if (kind == Kind::Tensor ? !isSize : variable.dimension.has_value()) break;
      guard.leaves.push_back(*leaf);
    }
    if (guard.leaves.size() == guard.condition.variables().size()) guards_.push_back(std::move(guard));
  }
}

std::optional<size_t> Signature::leafOf(const Variable& variable) const {
  if (variable.path.empty()) return std::nullopt;
  const auto* name = std::get_if<std::string>(&variable.path[0]);
  if (!name) return std::nullopt;
  if (*name == "flat_args" && variable.path.size() == 2) {
    const auto* leaf = std::get_if<int64_t>(&variable.path[1]);
    if (!leaf || *leaf < 0 || *leaf >= static_cast<int64_t>(inputs_.size())) return std::nullopt;
    return static_cast<size_t>(*leaf);
  }
  const auto& positional = inputTree_.children[0];
  const auto& keywords = inputTree_.children[1];
  if (const auto inKeywords = keywords.leafAt(variable.path)) return positional.leafCount + *inKeywords;
  for (size_t i = 0; i < argumentNames_.size() && i < positional.children.size(); ++i) {
    if (argumentNames_[i] != *name) continue;
    size_t before = 0;
    const auto* argument = positional.child(static_cast<int64_t>(i), before);
    const auto inside = argument->leafAt(variable.path, 1);
    return inside ? std::optional(before + *inside) : std::nullopt;
  }
  return std::nullopt;
}

void Signature::check(const std::vector<IValue>& inputs) const {
  TORCH_INTERNAL_ASSERT(inputs.size() == inputs_.size());
  Binding binding(symbols_);
  for (size_t i = 0; i < inputs.size(); ++i) checkLeaf(inputs_[i], inputs[i], binding);
  binding.checkCompound();
  for (const auto& guard : guards_) {
    size_t next = 0;
    std::optional<IValue> holds;
    try {
      holds = guard.condition.evaluate([&](const Variable& variable) -> std::optional<IValue> {
        const auto& value = inputs[guard.leaves[next++]];
        return variable.dimension ? IValue(value.toTensor().size(*variable.dimension)) : value;
      });
    } catch (const Error&) {
      continue;  // a condition that can't be decided says nothing
    }
    if (!holds || !holds->isBool() || holds->toBool()) continue;
    throw Error("ERR_INVALID_ARGUMENT", "Expected inputs for which " + guard.condition.text() +
                                            ", as the program was exported, but received others");
  }
}

void Signature::exchangeDtype(at::ScalarType from, at::ScalarType to) {
  for (auto* leaves : {&inputs_, &outputs_}) {
    for (auto& leaf : *leaves) {
      if (leaf.dtype == from) leaf.dtype = to;
    }
  }
}

}  // namespace lta::exported
