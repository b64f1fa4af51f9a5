#include "exported/interpreter.h"

#include <utility>

#include "exported/boundary.h"
#include "exported/control.h"
#include "exported/operator_arguments.h"
#include "runtime/cancellation.h"
#include "runtime/error.h"

namespace lta::exported {
namespace {

using c10::IValue;
using Kind = Argument::Kind;

// The node that the calling thread is running.
thread_local const Node* running = nullptr;

class RunningScope {
 public:
  RunningScope() : before_(running) {}
  ~RunningScope() { running = before_; }
  RunningScope(const RunningScope&) = delete;
  RunningScope& operator=(const RunningScope&) = delete;

 private:
  const Node* const before_;
};

const IValue& valueOf(const Argument::Item& item, const Frame& frame) {
  return item.slot == kNoSlot ? item.constant : frame[static_cast<size_t>(item.slot)];
}

template <typename Element, typename Convert>
IValue listOf(const Argument& argument, const Frame& frame, Convert convert) {
  c10::List<Element> list;
  list.reserve(argument.items.size());
  for (const auto& item : argument.items) list.push_back(convert(valueOf(item, frame)));
  return list;
}

IValue castNumber(const IValue& value, Argument::Cast cast) {
  if (cast == Argument::Cast::Float && value.isInt()) return static_cast<double>(value.toInt());
  if (cast == Argument::Cast::Tensor && value.isScalar()) return wrappedNumber(value);
  return value;
}

IValue valueOf(const Argument& argument, Frame& frame) {
  switch (argument.kind) {
    case Kind::Constant:
      return argument.constant;
    case Kind::Slot: {
      auto& slot = frame[static_cast<size_t>(argument.slot)];
      if (argument.cast != Argument::Cast::None) return castNumber(slot, argument.cast);
      if (!argument.last) return slot;
      return std::exchange(slot, IValue());
    }
    case Kind::Tensors:
      return listOf<at::Tensor>(argument, frame, [](const IValue& value) { return value.toTensor(); });
    case Kind::OptionalTensors:
      return listOf<std::optional<at::Tensor>>(argument, frame,
                                               [](const IValue& value) { return value.toOptional<at::Tensor>(); });
    case Kind::Integers:
      return listOf<int64_t>(argument, frame, [](const IValue& value) { return value.toInt(); });
    case Kind::Floats:
      return listOf<double>(argument, frame, [](const IValue& value) { return value.toScalar().toDouble(); });
    case Kind::Booleans:
      return listOf<bool>(argument, frame, [](const IValue& value) { return value.toBool(); });
    case Kind::Values: {
      c10::impl::GenericList list(c10::AnyType::get());
      list.reserve(argument.items.size());
      for (const auto& item : argument.items) list.push_back(valueOf(item, frame));
      return list;
    }
    case Kind::Graph:
      return {};
  }
  return {};
}

void store(int slot, IValue value, Frame& frame) {
  if (slot >= 0) frame[static_cast<size_t>(slot)] = std::move(value);
}

// An operator gives a list as one value, a graph each element by itself.
void storeResults(const Node& node, std::vector<IValue>& values, Frame& frame) {
  size_t next = 0;
  for (const auto& result : node.results) {
    if (!result.isList) {
      if (next < values.size()) store(result.slot, std::move(values[next]), frame);
      ++next;
    } else if (node.kind == Node::Kind::Control) {
      for (const int slot : result.slots) {
        if (next < values.size()) store(slot, std::move(values[next]), frame);
        ++next;
      }
    } else {
      const auto list = values.at(next++).toListRef();
      if (list.size() < result.slots.size()) throw Error("ERR_MODEL_RUN", "a list has fewer elements than are used");
      for (size_t i = 0; i < result.slots.size(); ++i) store(result.slots[i], list[i], frame);
    }
  }
}

void runNode(const Node& node, std::vector<IValue>& stack) {
  switch (node.kind) {
    case Node::Kind::Operator:
      if (node.check) node.check(stack);
      node.handle->callBoxed(&stack);
      return;
    case Node::Kind::Number: {
      auto value = compute(node.number, stack);
      stack.clear();
      stack.push_back(std::move(value));
      return;
    }
    case Node::Kind::Control:
      stack = runControl(node, std::move(stack));
      running = &node;
      return;
    case Node::Kind::Boundary:
      return runBoundary(*node.boundary, stack);
    case Node::Kind::Nothing:
      return;
  }
}

void runNodes(const Graph& graph, Frame& frame) {
  std::vector<IValue> stack;
  for (const auto& node : graph.nodes) {
    if (node.kind == Node::Kind::Nothing) continue;
    running = &node;
    stack.clear();
    for (const auto& argument : node.arguments) stack.push_back(valueOf(argument, frame));
    for (const int slot : node.ending) frame[static_cast<size_t>(slot)] = IValue();
    runNode(node, stack);
    storeResults(node, stack, frame);
  }
}

std::string placeOf(const Node& node) {
  const auto& module = node.module();
  return "in node '" + node.name + "' (" + node.target + ")" + (module.empty() ? "" : " of module '" + module + "'");
}

}  // namespace

std::vector<IValue> runGraph(const Graph& graph, Frame frame) {
  const RunningScope scope;
  try {
    runNodes(graph, frame);
  } catch (const Error&) {
    throw;
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception&) {
    auto* const run = Cancellation::current();
    if (run && run->stopped()) throw;
    throw describe(std::current_exception(), "ERR_MODEL_RUN", placeOf(*running));
  }
  std::vector<IValue> outputs;
  outputs.reserve(graph.outputs.size());
  for (const auto& output : graph.outputs) outputs.push_back(valueOf(output, frame));
  return outputs;
}

std::vector<IValue> callGraph(const Graph& graph, std::vector<IValue> inputs) {
  if (inputs.size() != graph.inputs.size()) {
    throw Error("ERR_MODEL_RUN", "a graph of the program takes " + std::to_string(graph.inputs.size()) +
                                     " values but is given " + std::to_string(inputs.size()));
  }
  Frame frame(static_cast<size_t>(graph.slotCount));
  for (size_t i = 0; i < inputs.size(); ++i) store(graph.inputs[i], std::move(inputs[i]), frame);
  return runGraph(graph, std::move(frame));
}

std::string currentModuleName() { return running ? running->module() : std::string(); }

}  // namespace lta::exported
