#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exported/module_stack.h"
#include "exported/numbers.h"
#include "runtime/operator_checks.h"

// A program as it is run: nodes in order, whose values stand in the numbered slots of a frame.
namespace lta::exported {

struct Boundary;
struct Graph;

// Where nothing is stored.
constexpr int kNoSlot = -1;
// Where nothing is stored since nothing would read it: the slot that it would be, and back.
constexpr int unread(int slot) { return -2 - slot; }

// How one argument of a node is made: a constant, or out of what lies in slots.
struct Argument {
  enum class Kind : uint8_t { Constant, Slot, Tensors, OptionalTensors, Integers, Floats, Booleans, Values, Graph };
  // What Python's argument parser makes of a number for an operator that wants something else.
  enum class Cast : uint8_t { None, Float, Tensor };
  struct Item {
    int slot = kNoSlot;
    c10::IValue constant;
  };

  Kind kind = Kind::Constant;
  Cast cast = Cast::None;
  bool last = false;  // nothing reads the slot after this: the value is moved out of it
  int slot = kNoSlot;
  size_t graph = 0;  // among the node's own
  c10::IValue constant;
  std::vector<Item> items;
};

// Where a value that a node gives is stored: in a slot, or, for a list, each element in its own.
struct Result {
  bool isList = false;
  int slot = kNoSlot;
  std::vector<int> slots;
};

enum class ControlOperator : uint8_t {
  SetGradEnabled,
  Autocast,
  Condition,
  WhileLoop,
  StackingLoop,
  Map,
  Scan,
  AssociativeScan,
  InvokeSubgraph,
  Wrapper
};

struct Node {
  enum class Kind : uint8_t { Operator, Number, Control, Boundary, Nothing };

  Kind kind = Kind::Nothing;
  std::string name;
  std::string target;  // "aten::linear", "_operator.add", "cond"
  ModuleStackPtr modules;
  std::optional<c10::OperatorHandle> handle;
  OperatorCheck check = nullptr;  // of its arguments, ahead of the call
  NumberOperator number{};
  ControlOperator control{};
  std::vector<Argument> arguments;
  std::vector<std::shared_ptr<Graph>> graphs;
  std::vector<std::string> graphNames;
  std::shared_ptr<const Boundary> boundary;
  std::vector<Result> results;
  std::vector<int> ending;  // slots that nothing reads after this, and that aren't moved out of

  const std::string& module() const;
};

// One call of a module: the nodes from `first` to `last`.
struct ModuleCallSite {
  std::string module;
  std::string type;
  std::string identity;  // tells several calls of one module apart
  size_t first = 0;
  size_t last = 0;
  // What goes in by position and what comes out; none where the graph doesn't tell.
  std::optional<std::vector<Argument>> inputs;
  std::optional<std::vector<Argument>> outputs;
  bool exact = false;  // they are leaves of what the module's forward takes and gives
  bool writesToOthers = false;
  // Whether what reads them is known: exporters take a tensor and what an operator gave back unchanged (`to` of its own
  // type) for one value, also where others go on with the first.
  bool mayReplaceInputs = true;
  std::vector<bool> mayReplaceOutputs;
};

struct Graph {
  std::vector<int> inputs;              // slots; none where an input is a constant
  std::vector<std::string> inputNames;  // as the file has them; empty for a constant
  std::vector<Argument> outputs;
  std::vector<Node> nodes;
  std::vector<ModuleCallSite> calls;  // those around others first
  std::vector<bool> isNumber;         // of each slot: it holds a number, or a boolean, rather than a tensor
  int slotCount = 0;
};

inline Argument slotArgument(int slot) {
  Argument argument;
  argument.kind = Argument::Kind::Slot;
  argument.slot = slot;
  return argument;
}

// Calls `visit` with each slot that an argument reads.
template <typename Visit>
void eachSlot(const Argument& argument, Visit visit) {
  if (argument.kind == Argument::Kind::Slot) visit(argument.slot);
  for (const auto& item : argument.items) {
    if (item.slot != kNoSlot) visit(item.slot);
  }
}

// Calls `visit` with each slot that a node stores to.
template <typename Visit>
void eachResultSlot(const Node& node, Visit visit) {
  for (const auto& result : node.results) {
    if (result.slot > kNoSlot) visit(result.slot);
    for (const int slot : result.slots) {
      if (slot > kNoSlot) visit(slot);
    }
  }
}

// Calls `visit` with each node of a graph and of those inside.
template <typename Visit>
void eachNode(Graph& graph, const Visit& visit) {
  for (auto& node : graph.nodes) {
    visit(node);
    for (auto& inner : node.graphs) eachNode(*inner, visit);
  }
}

// Says of each argument where its value is read for the last time, so that memory is freed as soon as it isn't needed,
// and that what nothing reads isn't stored. Values in `kept` outlive a run.
void findLastUses(Graph& graph, const std::vector<int>& kept);

// Whether a node reads at most, so that others may be moved past it.
inline bool isQuiet(const Node& node) {
  if (node.kind == Node::Kind::Nothing || node.kind == Node::Kind::Number) return true;
  return node.kind == Node::Kind::Operator && node.handle && !node.handle->schema().is_mutable();
}

// The slot that an argument takes as it is.
inline int slotOf(const Argument& argument) {
  return argument.kind == Argument::Kind::Slot && argument.cast == Argument::Cast::None ? argument.slot : kNoSlot;
}

}  // namespace lta::exported
