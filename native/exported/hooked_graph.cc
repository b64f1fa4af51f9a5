#include "exported/hooked_graph.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "exported/boundary.h"

namespace lta::exported {
namespace {

constexpr char kNodeMark = '.';

using Side = Boundary::Side;

int definedSlot(int slot) { return slot < kNoSlot ? unread(slot) : slot; }

std::vector<int> slotsOf(const Result& result) {
  std::vector<int> slots = result.isList ? result.slots : std::vector<int>{result.slot};
  for (int& slot : slots) slot = definedSlot(slot);
  std::erase(slots, kNoSlot);
  return slots;
}

std::vector<int> slotsOf(const Node& node) {
  std::vector<int> slots;
  for (const auto& result : node.results) {
    for (const int slot : slotsOf(result)) slots.push_back(slot);
  }
  return slots;
}

// Copies a graph node by node. Behind a boundary, what it gave takes the place of what it took: `current_` says in
// which slot each of the graph's own values is, at the node that is being copied.
class GraphWriter {
 public:
  GraphWriter(const Graph& graph, const HookSet& hooks, std::string prefix)
      : graph_(graph), hooks_(hooks), prefix_(std::move(prefix)) {
    made_.inputs = graph.inputs;
    made_.slotCount = graph.slotCount;
    made_.isNumber = graph.isNumber;
    for (int slot = 0; slot < graph.slotCount; ++slot) current_.push_back(slot);
  }

  // With the hooks on the model itself, where it is the graph of a program.
  Graph write(const Program* program) {
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (graph_.inputs[i] != kNoSlot) pass(graph_.inputNames[i], "placeholder", {graph_.inputs[i]}, /*isList=*/false);
    }
    if (program && hooks_.count("") != 0) enterModel(*program);
    auto next = graph_.calls.begin();
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (; next != graph_.calls.end() && next->first == i; ++next) {
        if (hooks_.count(next->module) != 0 && (next->inputs || next->outputs)) enter(*next);
      }
      copy(graph_.nodes[i]);
      while (!open_.empty() && open_.back().last == i) leave();
    }
    while (!open_.empty()) leave();
    auto ofModel = modelOutputs_.begin();
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      const bool isOutput = ofModel != modelOutputs_.end() && program->outputs[i].kind == Output::Kind::User;
      const int slot = isOutput ? *ofModel++ : kNoSlot;
      made_.outputs.push_back(slot == kNoSlot ? renamed(graph_.outputs[i]) : slotArgument(slot));
    }
    return std::move(made_);
  }

 private:
  // A call whose nodes are being copied.
  struct Open {
    size_t last;
    ModuleCall call;
    std::vector<Argument> inputs;  // as hooks left them
    std::vector<Argument> outputs;
    std::vector<std::pair<int, int>> before;  // where values were that the call's nodes have elsewhere
    std::vector<bool> mayReplaceOutputs;
    int state;
    bool isModel;
  };

  int newSlot(bool isNumber) {
    made_.isNumber.push_back(isNumber);
    return made_.slotCount++;
  }

  bool isNumber(int slot) const { return graph_.isNumber[static_cast<size_t>(slot)]; }

  c10::TypePtr typeOf(const Argument& argument) const {
    if (argument.kind == Argument::Kind::Constant) return argument.constant.type();
    if (isNumber(argument.slot)) return c10::NumberType::get();
    return c10::TensorType::get();
  }

  Argument renamed(Argument argument) const {
    argument.last = false;
    if (argument.slot != kNoSlot) argument.slot = current_[static_cast<size_t>(argument.slot)];
    for (auto& item : argument.items) {
      if (item.slot != kNoSlot) item.slot = current_[static_cast<size_t>(item.slot)];
    }
    return argument;
  }

  void copy(const Node& node) {
    made_.nodes.push_back(node);
    auto& copied = made_.nodes.back();
    for (auto& argument : copied.arguments) argument = renamed(std::move(argument));
    for (size_t i = 0; i < copied.graphs.size(); ++i) {
      GraphWriter inside(*node.graphs[i], hooks_, prefix_ + node.graphNames[i] + ".");
      copied.graphs[i] = std::make_shared<Graph>(inside.write(nullptr));
    }
    const bool isList = node.results.size() != 1 || node.results[0].isList;
    pass(node.name, node.target, slotsOf(node), isList);
  }

  // Hooks on the values of a node.
  void pass(const std::string& name, const std::string& type, const std::vector<int>& slots, bool isList) {
    const auto place = placeOfNode(prefix_ + name);
    if (slots.empty() || hooks_.count(place) == 0) return;
    Boundary boundary;
    boundary.side = Side::Value;
    boundary.isList = isList;
    std::vector<Argument> values;
    std::vector<c10::TypePtr> types;
    for (const int slot : slots) {
      values.push_back(slotArgument(slot));
      types.push_back(typeOf(values.back()));
      values.back() = renamed(values.back());
    }
    boundary.isReplaceable.assign(slots.size(), true);
    boundary.place = place;
    boundary.call = {prefix_ + name, type, {}, isList ? c10::TypePtr(c10::TupleType::create(types)) : types[0]};
    std::vector<int> results;
    for (const int slot : slots) results.push_back(newSlot(isNumber(slot)));
    add(std::move(boundary), std::move(values), results);
    for (size_t i = 0; i < slots.size(); ++i) current_[static_cast<size_t>(slots[i])] = results[i];
  }

  void add(Boundary boundary, std::vector<Argument> arguments, const std::vector<int>& results) {
    Node node;
    node.kind = Node::Kind::Boundary;
    node.name = boundary.call.module;
    node.target = "a hook";
    node.arguments = std::move(arguments);
    for (const int slot : results) {
      node.results.emplace_back();
      node.results.back().slot = slot;
    }
    node.boundary = std::make_shared<const Boundary>(std::move(boundary));
    made_.nodes.push_back(std::move(node));
  }

  void enter(const ModuleCallSite& call) {
    enter({call.module, call.type, {}, nullptr}, call.inputs.value_or(std::vector<Argument>()), call.mayReplaceInputs,
          call.outputs.value_or(std::vector<Argument>()), call.mayReplaceOutputs, call.last, /*isModel=*/false);
  }

  void enterModel(const Program& program) {
    std::vector<Argument> inputs, outputs;
    const auto& signature = program.signature;
    for (size_t i = 0; i < signature.inputTree().children[0].leafCount; ++i) {
      const int slot = program.inputs[i];
      if (slot != kNoSlot) {
        inputs.push_back(slotArgument(slot));
      } else {
        inputs.emplace_back();
        inputs.back().constant = signature.inputs()[i].constant;
      }
    }
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      if (program.outputs[i].kind == Output::Kind::User) outputs.push_back(graph_.outputs[i]);
    }
    std::vector<bool> mayReplaceOutputs(outputs.size(), true);
    enter({"", program.modules[0].type, {}, nullptr}, inputs, /*mayReplaceInputs=*/true, std::move(outputs),
          std::move(mayReplaceOutputs), SIZE_MAX, /*isModel=*/true);
  }

  void enter(ModuleCall call, const std::vector<Argument>& inputs, bool mayReplaceInputs, std::vector<Argument> outputs,
             std::vector<bool> mayReplaceOutputs, size_t last, bool isModel) {
    std::vector<c10::TypePtr> types;
    for (const auto& output : outputs) types.push_back(typeOf(output));
    call.outputType = c10::TupleType::create(types);
    for (const auto& input : inputs) call.inputTypes.push_back(typeOf(input));
    Boundary boundary;
    boundary.side = Side::Enter;
    boundary.inputs = inputs.size();
    std::vector<Argument> given;
    std::vector<int> results;
    Open opened{last, call, {}, std::move(outputs), {}, std::move(mayReplaceOutputs), kNoSlot, isModel};
    std::unordered_map<int, size_t> firstWith;  // of inputs, by what they are
    for (size_t i = 0; i < inputs.size(); ++i) {
      const int slot = inputs[i].slot;
      boundary.sameAs.push_back(slot == kNoSlot ? i : firstWith.emplace(slot, i).first->second);
      boundary.isReplaceable.push_back(slot != kNoSlot && mayReplaceInputs);
      given.push_back(renamed(inputs[i]));
      const bool isNew = slot != kNoSlot && boundary.sameAs.back() == i;
      results.push_back(isNew ? newSlot(isNumber(slot)) : kNoSlot);
      if (isNew) opened.before.emplace_back(slot, current_[static_cast<size_t>(slot)]);
    }
    opened.state = newSlot(false);
    results.push_back(opened.state);
    boundary.call = std::move(call);
    add(std::move(boundary), std::move(given), results);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (results[i] != kNoSlot) current_[static_cast<size_t>(inputs[i].slot)] = results[i];
    }
    for (const auto& input : inputs) opened.inputs.push_back(renamed(input));
    open_.push_back(std::move(opened));
  }

  void leave() {
    auto closed = std::move(open_.back());
    open_.pop_back();
    Boundary boundary;
    boundary.side = Side::Leave;
    boundary.call = std::move(closed.call);
    boundary.inputs = closed.inputs.size();
    boundary.isLast = closed.isModel;
    auto arguments = std::move(closed.inputs);
    std::vector<int> results;
    std::unordered_set<int> met;
    for (size_t i = 0; i < closed.outputs.size(); ++i) {
      const auto& output = closed.outputs[i];
      const bool isRepeated = !met.insert(output.slot).second;
      const bool isReplaceable =
          output.slot != kNoSlot && (closed.isModel || (closed.mayReplaceOutputs[i] && !isRepeated));
      arguments.push_back(renamed(output));
      boundary.isReplaceable.push_back(isReplaceable);
      results.push_back(isReplaceable ? newSlot(isNumber(output.slot)) : kNoSlot);
    }
    arguments.push_back(slotArgument(closed.state));
    for (const auto& [slot, before] : closed.before) current_[static_cast<size_t>(slot)] = before;
    add(std::move(boundary), std::move(arguments), results);
    if (closed.isModel) {
      modelOutputs_ = std::move(results);
      return;
    }
    for (size_t i = 0; i < results.size(); ++i) {
      if (results[i] != kNoSlot) current_[static_cast<size_t>(closed.outputs[i].slot)] = results[i];
    }
  }

  const Graph& graph_;
  const HookSet& hooks_;
  const std::string prefix_;
  Graph made_;
  std::vector<int> current_;
  std::vector<Open> open_;
  std::vector<int> modelOutputs_;  // as hooks left them
};

void addNodes(const Graph& graph, const std::string& prefix, std::vector<NodeInfo>& nodes) {
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    if (graph.inputs[i] != kNoSlot) nodes.push_back({prefix + graph.inputNames[i], "placeholder", ""});
  }
  for (const auto& node : graph.nodes) {
    if (!slotsOf(node).empty()) nodes.push_back({prefix + node.name, node.target, node.module()});
    for (size_t i = 0; i < node.graphs.size(); ++i) addNodes(*node.graphs[i], prefix + node.graphNames[i] + ".", nodes);
  }
}

}  // namespace

std::string placeOfNode(const std::string& node) { return kNodeMark + node; }

std::optional<std::string> nodeAt(const std::string& place) {
  return place.starts_with(kNodeMark) ? std::optional(place.substr(1)) : std::nullopt;
}

std::vector<NodeInfo> nodesOf(const Graph& graph) {
  std::vector<NodeInfo> nodes;
  addNodes(graph, "", nodes);
  return nodes;
}

Graph graphWithHooks(const Program& program, const HookSet& hooks) {
  auto graph = GraphWriter(program.graph, hooks, "").write(&program);
  findLastUses(graph, slotsOfWeights(program));
  return graph;
}

}  // namespace lta::exported
