#include "exported/layer_fusion.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exported/graph_index.h"
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

  explicit GraphView(const Program& program)
      : program_(program), graph_(recomposed(program)), index_(program, graph_) {}

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

  std::optional<Node> producer(const Value& value) const { return index_.producer(slotOf(value)); }

  std::optional<Node> onlyReader(const Value& value) const {
    const auto& readers = index_.readers(slotOf(value));
    if (readers.size() != 1 || readers[0] == GraphIndex::kOutput) return std::nullopt;
    return readers[0];
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
    auto weight = index_.weight(slotOf(value));
    if (!weight.defined()) return std::nullopt;
    return weight;
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
    for (const auto each : nodes) {
      index_.remove(graph_.nodes[each], each);
      graph_.nodes[each] = exported::Node();
    }
    index_.add(node, nodes.back());
    graph_.nodes[nodes.back()] = std::move(node);
  }

 private:
  const Program& program_;
  Graph graph_;
  GraphIndex index_;
};

}  // namespace

Graph fuseLayers(const Program& program) {
  GraphView view(program);
  fused::LayerMatcher matcher(view);
  matcher.replaceAll();
  return view.take();
}

}  // namespace lta::exported
