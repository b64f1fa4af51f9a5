#include "exported/graph_reader.h"

#include <algorithm>
#include <utility>

#include "archive/limits.h"
#include "exported/argument_reader.h"
#include "exported/expansion.h"
#include "exported/operator_arguments.h"
#include "exported/schema.h"
#include "exported/value_names.h"

namespace lta::exported {
namespace {

struct Control {
  std::string_view name;
  ControlOperator what;
  // Which of its arguments are graphs: from the first on, as many.
  size_t firstGraph;
  size_t graphs;
};

// Operators with graphs of their own, by the name that the dispatcher of Python has for them.
constexpr Control kControls[] = {
    {"wrap_with_set_grad_enabled", ControlOperator::SetGradEnabled, 1, 1},
    {"wrap_with_autocast", ControlOperator::Autocast, 4, 1},
    {"cond", ControlOperator::Condition, 1, 2},
    {"while_loop", ControlOperator::WhileLoop, 0, 2},
    {"while_loop_stack_output", ControlOperator::StackingLoop, 0, 2},
    {"map_impl", ControlOperator::Map, 0, 1},
    {"scan", ControlOperator::Scan, 0, 1},
    {"associative_scan", ControlOperator::AssociativeScan, 0, 1},
    {"invoke_subgraph", ControlOperator::InvokeSubgraph, 0, 1},
    {"strict_mode", ControlOperator::Wrapper, 0, 1},
    {"hints_wrapper", ControlOperator::Wrapper, 0, 1},
};

// Of torch.func, which exporters write as the functions of Python that they call.
constexpr std::string_view kTransforms = "torch._functorch.";

// Asserts what types a program was exported for; inputs were checked, and a model may be cast.
constexpr std::string_view kMetadataAssertion = "aten::_assert_tensor_metadata";

int defineValue(const Json& name, ValueNames& names, std::vector<bool>& isNumber, bool number) {
  const int slot = names.define(name.text());
  isNumber.push_back(number);
  return slot;
}

Result readResult(const Json& json, ValueNames& names, std::vector<bool>& isNumber) {
  const auto [kind, value] = json.only();
  Result result;
  if (kind == "as_tensor") {
    result.slot = defineValue(value.at("name"), names, isNumber, false);
  } else if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") {
    if (const auto name = value.find("as_name")) result.slot = defineValue(*name, names, isNumber, true);
  } else if (kind == "as_tensors") {
    result.isList = true;
    for (const auto& each : value.elements()) {
      result.slots.push_back(defineValue(each.at("name"), names, isNumber, false));
    }
  } else if (kind == "as_optional_tensors" || kind == "as_optional_tensor") {
    result.isList = kind == "as_optional_tensors";
    const auto read = [&](const Json& each) {
      const auto [form, inner] = each.only();
      return form == "as_tensor" ? defineValue(inner.at("name"), names, isNumber, false) : kNoSlot;
    };
    if (!result.isList) {
      result.slot = read(value);
    } else {
      for (const auto& each : value.elements()) result.slots.push_back(read(each));
    }
  } else if (kind != "as_none" && kind != "as_int" && kind != "as_float" && kind != "as_bool") {
    throw Error("ERR_UNSUPPORTED_FILE", "a node gives a value of the kind " + shown(kind) + ", which isn't served");
  }
  return result;
}

Error unknownHigherOrder(std::string_view target) {
  return Error("ERR_UNSUPPORTED_FILE", "it uses the higher-order operator " +
                                           shown(target.substr(kHigherOrder.size())) +
                                           ", which exists in Python only: export the model without it");
}

// The operator with graphs of its own that a target names; null for another target. Throws for those that aren't known.
const Control* controlOf(std::string_view target) {
  if (!target.starts_with(kHigherOrder) || target == kPrint || isExpanded(target)) return nullptr;
  const auto name = target.substr(kHigherOrder.size());
  const auto* found =
      std::find_if(std::begin(kControls), std::end(kControls), [&](const Control& each) { return each.name == name; });
  if (found != std::end(kControls)) return found;
  throw unknownHigherOrder(target);
}

// What graphs take in a list: tensors and numbers, which exporters write as tensors where both are in it.
Argument asValues(Argument argument) {
  using Kind = Argument::Kind;
  if (argument.kind != Kind::Constant && argument.kind != Kind::Slot && argument.kind != Kind::Graph) {
    argument.kind = Kind::Values;
  }
  return argument;
}

OperatorCall readCall(const Json& json, Node node, const ValueNames& names) {
  OperatorCall call;
  call.node = std::move(node);
  call.outputs = json.at("outputs").elements();
  const auto noGraph = [](const Json&) -> size_t { throw broken("an operator that is called gets a graph"); };
  for (const auto& input : json.at("inputs").elements()) {
    const auto argument = input.at("arg");
    if (const auto [kind, value] = argument.only(); kind == "as_operator") {
      call.called = value.string();
      if (!call.called.starts_with(kOperators)) throw broken("it has an operator " + shown(call.called));
      if (call.called.starts_with(kHigherOrder) && call.called != kPrint) throw unknownHigherOrder(call.called);
      continue;
    }
    call.argumentNames.push_back(input.at("name").string());
    call.values.push_back(nameIn(argument));
    call.arguments.push_back(readArgument(argument, names, noGraph));
  }
  return call;
}

void checkGraphs(const Node& node, const Control& control) {
  const auto& arguments = node.arguments;
  bool right = arguments.size() >= control.firstGraph + control.graphs && node.graphs.size() == control.graphs;
  for (size_t i = 0; right && i < arguments.size(); ++i) {
    const bool isGraph = i >= control.firstGraph && i < control.firstGraph + control.graphs;
    right = (arguments[i].kind == Argument::Kind::Graph) == isGraph;
  }
  if (!right) throw broken("the node " + shown(node.name) + " has other graphs than " + node.target + " has");
}

}  // namespace

const std::string& Node::module() const {
  static const std::string itself;
  return modules && !modules->empty() ? modules->back().name : itself;
}

NamedGraph GraphReader::readGraph(const Json& json, uint64_t depth) {
  if (depth > archive::kMaxGraphDepth) throw broken("its graphs are nested too deep");
  NamedGraph read;
  auto& [graph, names] = read;
  for (const auto& input : json.at("inputs").elements()) {
    auto name = nameIn(input);
    const auto kind = input.only().first;
    graph.inputs.push_back(name.empty() ? kNoSlot : names.define(name));
    if (!name.empty()) graph.isNumber.push_back(kind.starts_with("as_sym"));
    graph.inputNames.push_back(std::move(name));
  }
  const auto nodes = json.at("nodes").elements();
  graph.nodes.reserve(nodes.size());
  Expansion expansion(
      graph, names, valuesIn(json, "tensor_values"),
      [&](Node& node, std::vector<Argument> arguments, const std::vector<std::string>& argumentNames) {
        readOperator(node, std::move(arguments), argumentNames, graph.isNumber);
      },
      [&](const Json& output) { return readResult(output, names, graph.isNumber); });
  for (const auto& each : nodes) readNode(each, names, graph, expansion, depth);
  const auto noGraph = [](const Json&) -> size_t { throw broken("a graph gives a graph"); };
  for (const auto& output : json.at("outputs").elements()) {
    graph.outputs.push_back(readArgument(output, names, noGraph));
  }
  graph.slotCount = names.count();
  return read;
}

void GraphReader::readNode(const Json& json, ValueNames& names, Graph& graph, Expansion& expansion, uint64_t depth) {
  auto& isNumber = graph.isNumber;
  Node node;
  node.target = json.at("target").string();
  if (const auto name = json.find("name")) node.name = name->string();
  if (const auto metadata = json.find("metadata")) {
    const auto stack = metadata->find("nn_module_stack");
    node.modules = modules_.read(stack ? stack->text() : std::string_view());
  }
  const auto readInner = [&](const Json& graph) {
    node.graphs.push_back(std::make_shared<Graph>(readGraph(graph.at("graph"), depth + 1).graph));
    const auto name = graph.find("name");
    node.graphNames.push_back(name ? name->string() : "graph_" + std::to_string(node.graphs.size() - 1));
    return node.graphs.size() - 1;
  };
  const Control* const control = controlOf(node.target);
  std::vector<Argument> arguments;
  std::vector<std::string> argumentNames;
  const auto outputs = json.at("outputs").elements();
  // Files of before 2.9 name values, not nodes.
  if (node.name.empty() && !outputs.empty()) node.name = nameOfValue(outputs.front());
  if (isExpanded(node.target)) return expansion.append(readCall(json, std::move(node), names));
  for (const auto& input : json.at("inputs").elements()) {
    argumentNames.push_back(input.at("name").string());
    arguments.push_back(readArgument(input.at("arg"), names, readInner));
  }
  if (const auto number = numberOperator(node.target)) {
    if (arguments.size() != operandCount(*number)) {
      throw broken("the node " + shown(node.name) + " has another number of operands than " + node.target);
    }
    node.kind = Node::Kind::Number;
    node.number = *number;
    node.arguments = std::move(arguments);
  } else if (node.target == kPrint) {
    node.kind = Node::Kind::Nothing;
  } else if (control) {
    node.target = control->name;
    node.kind = Node::Kind::Control;
    node.control = control->what;
    for (auto& argument : arguments) node.arguments.push_back(asValues(std::move(argument)));
    checkGraphs(node, *control);
  } else if (node.target.starts_with(kOperators)) {
    readOperator(node, std::move(arguments), argumentNames, isNumber);
  } else if (node.target.starts_with(kTransforms)) {
    throw Error("ERR_UNSUPPORTED_FILE",
                "it calls " + shown(node.target) +
                    ", a part of torch.vmap or torch.func that exists in Python only: run_decompositions() of the "
                    "exported program, before torch.export.save, writes out what it does");
  } else {
    throw Error("ERR_UNSUPPORTED_FILE",
                "it calls " + shown(node.target) + ", which is no operator of libtorch: export the model without it");
  }
  if (node.kind != Node::Kind::Control && !node.graphs.empty()) {
    throw broken("the node " + shown(node.name) + " has a graph, which " + node.target + " doesn't take");
  }
  for (const auto& output : outputs) node.results.push_back(readResult(output, names, isNumber));
  if (node.handle && node.results.size() > node.handle->schema().returns().size()) {
    throw broken("the node " + shown(node.name) + " gives more values than " + node.target + " does");
  }
  graph.nodes.push_back(std::move(node));
}

void GraphReader::readOperator(Node& node, std::vector<Argument> arguments, const std::vector<std::string>& names,
                               const std::vector<bool>& isNumber) {
  const auto name = operatorName(node.target);
  node.target = toString(name);
  node.handle = c10::Dispatcher::singleton().findSchema(name);
  if (!node.handle) {
    throw Error(
        "ERR_UNKNOWN_OPERATOR",
        "it uses the operator " + shown(node.target) +
            ", which this libtorch doesn't have: a custom operator comes with a shared library of its own, which "
            "loadOperators "
            "loads; one that is written in Python (torch.library.custom_op) can't run without it: write it in C++ "
            "(TORCH_LIBRARY), or export the model without it");
  }
  mayUse_(*node.handle);
  node.check = checkOf(node.handle->schema(), /*dispatched=*/true);
  node.arguments = arrangeArguments(node.handle->schema(), std::move(arguments), names, isNumber);
  node.kind = name.name == kMetadataAssertion ? Node::Kind::Nothing : Node::Kind::Operator;
}

}  // namespace lta::exported
