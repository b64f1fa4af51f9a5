#include "exported/layer_fusion.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fused/operators.h"

namespace lta::exported {
namespace {

using c10::IValue;
using fused::OptionalTensor;
using Kind = Argument::Kind;

Argument constantOf(IValue value) {
  Argument argument;
  argument.constant = std::move(value);
  return argument;
}

bool isOperator(const Node& node, const char* name) {
  return node.kind == Node::Kind::Operator && node.handle && node.handle->operator_name().name == name;
}

// Whether a node reads at most, so that others may be moved past it.
bool isQuiet(const Node& node) {
  if (node.kind == Node::Kind::Nothing || node.kind == Node::Kind::Number) return true;
  return node.kind == Node::Kind::Operator && node.handle && !node.handle->schema().is_mutable();
}

// The slot of a tensor that an argument is.
int tensorSlot(const Argument& argument) {
  return argument.kind == Kind::Slot && argument.cast == Argument::Cast::None ? argument.slot : kNoSlot;
}

int resultSlot(const Node& node) {
  return node.results.size() == 1 && !node.results[0].isList ? node.results[0].slot : kNoSlot;
}

class Fusion {
 public:
  explicit Fusion(const Program& program) : program_(program), graph_(program.graph) {
    const auto slots = static_cast<size_t>(graph_.slotCount);
    weights_.resize(slots);
    made_.assign(slots, kNowhere);
    for (const auto& [slot, weight] : program.bound) {
      weights_[static_cast<size_t>(slot)] = program.weights[weight].tensor;
    }
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      eachResultSlot(graph_.nodes[i], [&](int slot) { made_[static_cast<size_t>(slot)] = i; });
    }
    readers_.resize(slots);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) addReads(i);
    for (const auto& output : graph_.outputs) {
      eachSlot(output, [&](int slot) { readers_[static_cast<size_t>(slot)].push_back(kNowhere); });
    }
  }

  Graph graph() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (isOperator(graph_.nodes[i], "aten::linear")) fuseChain(i);
    }
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (isOperator(graph_.nodes[i], "lta::linear")) joinFeedForward(i);
    }
    std::erase_if(graph_.nodes, [](const Node& node) { return node.kind == Node::Kind::Nothing; });
    graph_.calls.clear();  // they are told by places of nodes
    findLastUses(graph_, slotsOfWeights(program_));
    return std::move(graph_);
  }

 private:
  static constexpr size_t kNowhere = SIZE_MAX;

  void addReads(size_t place) {
    for (const auto& argument : graph_.nodes[place].arguments) {
      eachSlot(argument, [&](int slot) { readers_[static_cast<size_t>(slot)].push_back(place); });
    }
  }

  void remove(size_t place) {
    auto& node = graph_.nodes[place];
    for (const auto& argument : node.arguments) {
      eachSlot(argument, [&](int slot) { std::erase(readers_[static_cast<size_t>(slot)], place); });
    }
    node = Node();
  }

  // A tensor that the program brings along, or none; nothing where it is something else.
  std::optional<OptionalTensor> weightOf(const Argument& argument) const {
    if (argument.kind == Kind::Constant && argument.constant.isNone()) return OptionalTensor();
    const int slot = tensorSlot(argument);
    if (slot == kNoSlot || !weights_[static_cast<size_t>(slot)].defined()) return std::nullopt;
    return weights_[static_cast<size_t>(slot)];
  }

  bool mayMove(size_t first, size_t last) const {
    constexpr size_t kMostBetween = 256;
    if (last <= first || last - first > kMostBetween) return false;
    return std::all_of(graph_.nodes.begin() + static_cast<int64_t>(first) + 1,
                       graph_.nodes.begin() + static_cast<int64_t>(last), isQuiet);
  }

  // Dropout that gives its input.
  static bool isIdentity(const Node& node) {
    return isOperator(node, "aten::dropout") && node.arguments.size() == 3 &&
           node.arguments[2].kind == Kind::Constant && node.arguments[2].constant.isBool() &&
           !node.arguments[2].constant.toBool();
  }

  // A linear layer and the nodes behind it that become one.
  struct Chain {
    std::vector<size_t> nodes;   // in their order
    std::vector<size_t> passed;  // dropouts on the way to the node that is looked at
    int output = kNoSlot;        // of all that, dropouts included
    int64_t columns = 0;
    Activation activation = Activation::None;
    std::optional<Argument> residual;
    std::optional<size_t> norm;

    void take(size_t node) {
      nodes.insert(nodes.end(), passed.begin(), passed.end());
      nodes.push_back(node);
    }
  };

  // The only node that reads what a chain gives, behind dropouts.
  std::optional<size_t> user(Chain& chain) const {
    chain.passed.clear();
    chain.output = resultSlot(graph_.nodes[chain.nodes.back()]);
    for (;;) {
      if (chain.output < 0) return std::nullopt;
      const auto& readers = readers_[static_cast<size_t>(chain.output)];
      if (readers.size() != 1 || readers[0] == kNowhere || !mayMove(chain.nodes.back(), readers[0])) {
        return std::nullopt;
      }
      const auto& next = graph_.nodes[readers[0]];
      if (!isIdentity(next)) return readers[0];
      chain.passed.push_back(readers[0]);
      chain.output = resultSlot(next);
    }
  }

  void takeActivation(Chain& chain, size_t place) const {
    const auto& node = graph_.nodes[place];
    if (node.kind != Node::Kind::Operator || !node.handle) return;
    std::string approximate = "none";
    if (isOperator(node, "aten::gelu") && node.arguments.size() > 1) {
      const auto& given = node.arguments[1];
      if (given.kind != Kind::Constant || !given.constant.isString()) return;
      approximate = given.constant.toStringRef();
    }
    const auto found = fused::activationOf(node.handle->operator_name().name, approximate);
    if (!found || resultSlot(node) < 0) return;
    chain.activation = *found;
    chain.take(place);
  }

  void takeResidual(Chain& chain, size_t place) const {
    const auto& node = graph_.nodes[place];
    if (!isOperator(node, "aten::add") || node.handle->operator_name().overload_name != "Tensor" ||
        node.arguments.size() != 3 || resultSlot(node) < 0) {
      return;
    }
    const auto &first = node.arguments[0], &second = node.arguments[1], &alpha = node.arguments[2];
    const auto isTensor = [&](const Argument& argument) {
      const int slot = tensorSlot(argument);
      return slot != kNoSlot && !graph_.isNumber[static_cast<size_t>(slot)];
    };
    if (!isTensor(first) || !isTensor(second) || alpha.kind != Kind::Constant || !alpha.constant.isInt() ||
        alpha.constant.toInt() != 1) {
      return;
    }
    chain.residual = first.slot == chain.output ? second : first;
    chain.take(place);
  }

  void takeNorm(Chain& chain, size_t place) const {
    const auto& node = graph_.nodes[place];
    if (!isOperator(node, "aten::layer_norm") || node.arguments.size() < 5 || resultSlot(node) < 0) return;
    const auto &shape = node.arguments[1], &epsilon = node.arguments[4];
    const auto weight = weightOf(node.arguments[2]), bias = weightOf(node.arguments[3]);
    const bool isOverColumns = shape.kind == Kind::Constant && shape.constant.isIntList() &&
                               shape.constant.toIntVector() == std::vector<int64_t>{chain.columns};
    if (!isOverColumns || !weight || !bias || epsilon.kind != Kind::Constant || !epsilon.constant.isDouble() ||
        !fused::canNormalize(*weight, *bias, chain.columns)) {
      return;
    }
    chain.norm = place;
    chain.take(place);
  }

  void fuseChain(size_t place) {
    const auto& linear = graph_.nodes[place];
    if (linear.arguments.size() != 3 || tensorSlot(linear.arguments[0]) == kNoSlot) return;
    const auto weight = weightOf(linear.arguments[1]), bias = weightOf(linear.arguments[2]);
    if (!weight || !*weight || !bias || !fused::canPack(**weight, *bias)) return;
    Chain chain;
    chain.nodes.push_back(place);
    chain.columns = (*weight)->size(0);
    if (const auto next = user(chain)) takeActivation(chain, *next);
    if (const auto next = user(chain)) takeResidual(chain, *next);
    if (const auto next = user(chain)) takeNorm(chain, *next);

    const auto packed = packed_.of(**weight, *bias);
    const auto none = constantOf(IValue());
    auto arguments = linear.arguments;
    for (auto& argument :
         {constantOf(packed.packed), constantOf(packed.version), constantOf(static_cast<int64_t>(chain.activation))}) {
      arguments.push_back(argument);
    }
    arguments.push_back(chain.residual.value_or(none));
    for (const size_t argument : {2, 3, 4}) {
      arguments.push_back(chain.norm ? graph_.nodes[*chain.norm].arguments[argument] : none);
    }
    put(fused::linearOperator(), std::move(arguments), chain.nodes);
  }

  // Puts a node of an operator of ours in place of the last of these, and named after the first, which are removed.
  void put(const c10::OperatorHandle& handle, std::vector<Argument> arguments, const std::vector<size_t>& nodes) {
    const auto named = nodes.front(), last = nodes.back();
    Node node;
    node.kind = Node::Kind::Operator;
    node.name = graph_.nodes[named].name;
    node.target = handle.operator_name().name;
    node.modules = graph_.nodes[named].modules;
    node.handle = handle;
    node.arguments = std::move(arguments);
    node.results = graph_.nodes[last].results;
    for (const auto each : nodes) remove(each);
    graph_.nodes[last] = std::move(node);
    addReads(last);
    eachResultSlot(graph_.nodes[last], [&](int slot) { made_[static_cast<size_t>(slot)] = last; });
  }

  // A layer whose only reader is another one.
  void joinFeedForward(size_t place) {
    const auto& second = graph_.nodes[place];
    int slot = tensorSlot(second.arguments[fused::kInput]);
    std::vector<size_t> nodes{place};  // the first layer in front
    size_t from = kNowhere;
    for (;;) {
      if (slot < 0 || readers_[static_cast<size_t>(slot)].size() != 1) return;
      from = made_[static_cast<size_t>(slot)];
      if (from == kNowhere) return;
      nodes.insert(nodes.begin(), from);
      if (!isIdentity(graph_.nodes[from])) break;
      slot = tensorSlot(graph_.nodes[from].arguments[0]);
    }
    const auto& first = graph_.nodes[from];
    const auto isNone = [&](size_t argument) {
      return first.arguments[argument].kind == Kind::Constant && first.arguments[argument].constant.isNone();
    };
    if (!isOperator(first, "lta::linear") || !mayMove(from, place) || !isNone(fused::kResidual) ||
        !isNone(fused::kEpsilon))
      return;
    // An activation of the second layer isn't among the arguments.
    if (second.arguments[fused::kActivation].constant.toInt() != static_cast<int64_t>(Activation::None)) return;
    auto arguments = fused::feedForwardArguments<Argument>(first.arguments, second.arguments);
    put(fused::feedForwardOperator(), std::move(arguments), nodes);
  }

  const Program& program_;
  Graph graph_;
  std::vector<at::Tensor> weights_;           // by slot
  std::vector<size_t> made_;                  // the node that makes a slot
  std::vector<std::vector<size_t>> readers_;  // the nodes that read a slot; nowhere for outputs
  fused::PackedWeights packed_;
};

}  // namespace

Graph fuseLayers(const Program& program) { return Fusion(program).graph(); }

}  // namespace lta::exported
