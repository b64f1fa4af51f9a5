#include "exported/layer_fusion.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exported/recomposition.h"
#include "fused/layer_matcher.h"

namespace lta::exported {
namespace {

using c10::IValue;
using Kind = Argument::Kind;

// A program's graph as fused/layer_matcher.h asks for it.
class GraphView {
 public:
  using Node = size_t;  // its place
  using Value = Argument;

  explicit GraphView(const Program& program) : program_(program), graph_(recomposed(program)) {
    const auto slots = static_cast<size_t>(graph_.slotCount);
    weights_.resize(slots);
    producers_.resize(slots);
    readers_.resize(slots);
    for (const auto& [slot, weight] : program.bound) {
      weights_[static_cast<size_t>(slot)] = program.weights[weight].tensor;
    }
    for (Node node = 0; node < graph_.nodes.size(); ++node) addEdges(node);
    for (const auto& output : graph_.outputs) {
      eachSlot(output, [&](int slot) { readers_[static_cast<size_t>(slot)].emplace_back(); });
    }
  }

  // What the graph has become.
  Graph take() {
    std::erase_if(graph_.nodes, [](const auto& node) { return node.kind == exported::Node::Kind::Nothing; });
    graph_.calls.clear();  // they are told by places of nodes
    findLastUses(graph_, slotsOfWeights(program_));
    return std::move(graph_);
  }

  std::vector<Node> nodesOf(const char* name) const {
    std::vector<Node> nodes;
    for (Node node = 0; node < graph_.nodes.size(); ++node) {
      if (operatorOf(node) == name) nodes.push_back(node);
    }
    return nodes;
  }

  std::string operatorOf(Node place) const {
    const auto& node = graph_.nodes[place];
    if (node.kind != exported::Node::Kind::Operator || !node.handle) return {};
    return node.handle->operator_name().name;
  }

  size_t inputCount(Node node) const { return graph_.nodes[node].arguments.size(); }
  Value input(Node node, size_t place) const { return graph_.nodes[node].arguments[place]; }

  std::optional<Value> output(Node node) const {
    const auto& results = graph_.nodes[node].results;
    if (results.size() != 1 || results[0].isList || results[0].slot < 0) return std::nullopt;
    return slotArgument(results[0].slot);
  }

  std::optional<Node> producer(const Value& value) const {
    const int slot = slotOf(value);
    return slot == kNoSlot ? std::nullopt : producers_[static_cast<size_t>(slot)];
  }

  std::optional<Node> onlyReader(const Value& value) const {
    const int slot = slotOf(value);
    if (slot == kNoSlot || readers_[static_cast<size_t>(slot)].size() != 1) return std::nullopt;
    return readers_[static_cast<size_t>(slot)][0];
  }

  bool isTensor(const Value& value) const {
    const int slot = slotOf(value);
    return slot != kNoSlot && !graph_.isNumber[static_cast<size_t>(slot)];
  }

  static bool areSame(const Value& first, const Value& second) {
    return slotOf(first) != kNoSlot && slotOf(first) == slotOf(second);
  }

  static std::optional<IValue> constant(const Value& value) {
    if (value.kind != Kind::Constant) return std::nullopt;
    return value.constant;
  }

  std::optional<fused::OptionalTensor> weight(const Value& value) const {
    if (value.kind == Kind::Constant) {
      if (value.constant.isNone()) return fused::OptionalTensor();
      if (value.constant.isTensor()) return value.constant.toTensor();
      return std::nullopt;
    }
    const int slot = slotOf(value);
    if (slot == kNoSlot || !weights_[static_cast<size_t>(slot)].defined()) return std::nullopt;
    return weights_[static_cast<size_t>(slot)];
  }

  bool mayMove(Node first, Node last) const {
    if (last <= first || last - first > fused::kMostNodesBetween) return false;
    return std::all_of(graph_.nodes.begin() + static_cast<int64_t>(first) + 1,
                       graph_.nodes.begin() + static_cast<int64_t>(last), isQuiet);
  }

  static Value insertConstant(Node /*node*/, IValue value) {
    Argument argument;
    argument.constant = std::move(value);
    return argument;
  }

  void replace(const std::vector<Node>& nodes, const c10::OperatorHandle& handle, std::vector<Value> inputs) {
    const auto &named = graph_.nodes[nodes.front()], &last = graph_.nodes[nodes.back()];
    exported::Node node;
    node.kind = exported::Node::Kind::Operator;
    node.name = named.name;
    node.target = handle.operator_name().name;
    node.modules = named.modules;
    node.handle = handle;
    node.arguments = std::move(inputs);
    node.results = last.results;
    for (const auto each : nodes) remove(each);
    graph_.nodes[nodes.back()] = std::move(node);
    addEdges(nodes.back());
  }

 private:
  void addEdges(Node place) {
    const auto& node = graph_.nodes[place];
    for (const auto& argument : node.arguments) {
      eachSlot(argument, [&](int slot) { readers_[static_cast<size_t>(slot)].emplace_back(place); });
    }
    eachResultSlot(node, [&](int slot) { producers_[static_cast<size_t>(slot)] = place; });
  }

  void remove(Node place) {
    auto& node = graph_.nodes[place];
    for (const auto& argument : node.arguments) {
      eachSlot(argument, [&](int slot) { std::erase(readers_[static_cast<size_t>(slot)], std::optional(place)); });
    }
    node = exported::Node();
  }

  const Program& program_;
  Graph graph_;
  std::vector<at::Tensor> weights_;  // by slot, as what follows
  std::vector<std::optional<Node>> producers_;
  std::vector<std::vector<std::optional<Node>>> readers_;  // nothing stands for an output of the graph
};

}  // namespace

Graph fuseLayers(const Program& program) {
  GraphView view(program);
  fused::LayerMatcher matcher(view);
  matcher.replaceAll();
  return view.take();
}

}  // namespace lta::exported
