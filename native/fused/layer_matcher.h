// Finds the linear layers of a graph, whichever kind it is, that lta::linear and lta::feed_forward can take the place
// of, and its attention, for lta::attention.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fused/operators.h"

namespace lta::fused {

// What the matcher asks of a kind of graph. A view has the types `Node`, which is cheap to copy and stays valid until
// the node is replaced, and `Value`, an argument or a result of nodes. Operators are named as "aten::linear", without
// overload.
template <typename View>
concept GraphView = requires(View view, const typename View::Node node, const typename View::Value value) {
  // The nodes of an operator, in the order in which they run.
  { view.nodesOf("") } -> std::same_as<std::vector<typename View::Node>>;
  // The operator of a node; empty where it is of another kind.
  { view.operatorOf(node) } -> std::same_as<std::string>;
  { view.inputCount(node) } -> std::same_as<size_t>;
  { view.input(node, size_t()) } -> std::same_as<typename View::Value>;
  // The only result of a node, if there is one.
  { view.output(node) } -> std::same_as<std::optional<typename View::Value>>;
  // The node that a value is a result of; none for inputs of the graph and for constants.
  { view.producer(value) } -> std::same_as<std::optional<typename View::Node>>;
  // The node that is the only one to read a value; none where it is an output of the graph, too.
  { view.onlyReader(value) } -> std::same_as<std::optional<typename View::Node>>;
  { view.isTensor(value) } -> std::same_as<bool>;
  { view.areSame(value, value) } -> std::same_as<bool>;
  // A value that is the same in every run.
  { view.constant(value) } -> std::same_as<std::optional<c10::IValue>>;
  // A tensor that is the same in every run, or None; nothing where a value is neither.
  { view.weight(value) } -> std::same_as<std::optional<OptionalTensor>>;
  // Whether what `first` computes may as well be computed where `last` is: nothing between them writes.
  { view.mayMove(node, node) } -> std::same_as<bool>;
  // A constant for the inputs of a node that takes the place of this one.
  { view.insertConstant(node, c10::IValue()) } -> std::same_as<typename View::Value>;
  // Puts a node in place of the last of these, which are in order, and removes them. It has the name of the first.
  view.replace(std::vector<typename View::Node>(), linearOperator(), std::vector<typename View::Value>());
};

// Nodes that are farther apart aren't looked at.
inline constexpr size_t kMostNodesBetween = 256;

template <GraphView View>
class LayerMatcher {
 public:
  explicit LayerMatcher(View& view) : view_(view) {}

  void replaceAll() {
    for (const auto node : view_.nodesOf("aten::tanh")) replaceWrittenGelu(node);
    for (const auto node : view_.nodesOf("aten::linear")) replaceChain(node);
    for (const auto node : view_.nodesOf("lta::linear")) joinFeedForward(node);
    for (const auto node : view_.nodesOf("aten::scaled_dot_product_attention")) replaceAttention(node);
  }

 private:
  using Node = typename View::Node;
  using Value = typename View::Value;

  // A linear layer and the nodes behind it that become one.
  struct Chain {
    std::vector<Node> nodes;      // in order
    std::vector<Node> dropouts;   // between the last of them and the node that is looked at
    std::optional<Value> output;  // of all these
    int64_t columns = 0;
    Activation activation = Activation::None;
    std::optional<Value> residual;
    std::optional<Node> norm;

    void take(Node node) {
      nodes.insert(nodes.end(), dropouts.begin(), dropouts.end());
      nodes.push_back(node);
    }
  };

  // Dropout that returns its input, or a copy, which is what decompositions make of it. Nothing else reads what is
  // copied, where this is asked.
  bool isIdentity(Node node) const {
    if (view_.operatorOf(node) == "aten::clone" && view_.inputCount(node) == 2) {
      const auto format = view_.constant(view_.input(node, 1));
      return format && format->isNone();
    }
    if (view_.operatorOf(node) != "aten::dropout" || view_.inputCount(node) != 3) return false;
    const auto training = view_.constant(view_.input(node, 2));
    return training && training->isBool() && !training->toBool();
  }

  // The only node that reads what a chain computes, behind dropouts.
  std::optional<Node> readerOf(Chain& chain) const {
    chain.dropouts.clear();
    chain.output = view_.output(chain.nodes.back());
    while (chain.output) {
      const auto reader = view_.onlyReader(*chain.output);
      if (!reader || !view_.mayMove(chain.nodes.back(), *reader)) return std::nullopt;
      if (!isIdentity(*reader)) return view_.output(*reader) ? reader : std::nullopt;
      chain.dropouts.push_back(*reader);
      chain.output = view_.output(*reader);
    }
    return std::nullopt;
  }

  void takeActivation(Chain& chain, Node node) const {
    const auto name = view_.operatorOf(node);
    std::string approximate = "none";
    if (name == "aten::gelu" && view_.inputCount(node) > 1) {
      const auto given = view_.constant(view_.input(node, 1));
      if (!given || !given->isString()) return;
      approximate = given->toStringRef();
    }
    const auto found = activationOf(name, approximate);
    if (!found) return;
    chain.activation = *found;
    chain.take(node);
  }

  void takeResidual(Chain& chain, Node node) const {
    if (view_.operatorOf(node) != "aten::add" || view_.inputCount(node) != 3) return;
    const auto first = view_.input(node, 0), second = view_.input(node, 1);
    const auto alpha = view_.constant(view_.input(node, 2));
    if (!view_.isTensor(first) || !view_.isTensor(second) || !alpha || !alpha->isInt() || alpha->toInt() != 1) return;
    chain.residual = view_.areSame(first, *chain.output) ? second : first;
    chain.take(node);
  }

  void takeNorm(Chain& chain, Node node) const {
    if (view_.operatorOf(node) != "aten::layer_norm" || view_.inputCount(node) < 5) return;
    const auto shape = view_.constant(view_.input(node, 1)), epsilon = view_.constant(view_.input(node, 4));
    const auto weight = view_.weight(view_.input(node, 2)), bias = view_.weight(view_.input(node, 3));
    if (!shape || !shape->isIntList() || shape->toIntVector() != std::vector<int64_t>{chain.columns} || !weight ||
        !bias || !epsilon || !epsilon->isDouble() || !canNormalize(*weight, *bias, chain.columns)) {
      return;
    }
    chain.norm = node;
    chain.take(node);
  }

  // A number that is the same in every run; traces write them as tensors.
  std::optional<double> number(const Value& value) const {
    const auto given = view_.constant(value);
    if (!given) return std::nullopt;
    if (given->isDouble()) return given->toDouble();
    if (given->isInt()) return static_cast<double>(given->toInt());
    if (!given->isTensor()) return std::nullopt;
    const at::Tensor tensor = given->toTensor();
    if (!tensor.defined() || tensor.dim() != 0 || tensor.is_complex()) return std::nullopt;
    return tensor.item<double>();
  }

  bool isNumber(const Value& value, double expected) const {
    const auto given = number(value);
    return given && std::abs(*given - expected) < 1e-6;
  }

  // What a node gives that only `reader` reads, if it is of this operator.
  std::optional<Node> madeFor(const Value& value, Node reader, const char* name) const {
    const auto node = view_.producer(value);
    if (!node || view_.operatorOf(*node) != name || view_.onlyReader(value) != reader) return std::nullopt;
    return node;
  }

  // The operand of a node beside a number, times or plus which it is.
  std::optional<Value> besideNumber(Node node, double expected) const {
    const bool isSum = view_.operatorOf(node) == "aten::add";
    if (view_.inputCount(node) != (isSum ? 3U : 2U)) return std::nullopt;
    if (isSum && !isNumber(view_.input(node, 2), 1)) return std::nullopt;
    for (const size_t place : {0, 1}) {
      if (isNumber(view_.input(node, place), expected)) return view_.input(node, 1 - place);
    }
    return std::nullopt;
  }

  bool isOfPackedLinear(const Value& value) const {
    const auto node = view_.producer(value);
    if (!node || view_.operatorOf(*node) != "aten::linear" || view_.inputCount(*node) != 3) return false;
    const auto weight = view_.weight(view_.input(*node, 1)), bias = view_.weight(view_.input(*node, 2));
    return weight && *weight && bias && canPack(**weight, *bias);
  }

  // 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))), operator by operator as many models have it, becomes `gelu`.
  void replaceWrittenGelu(Node tanh) {
    constexpr const char* kAdd = "aten::add";
    constexpr const char* kMul = "aten::mul";
    const auto scaled = madeFor(view_.input(tanh, 0), tanh, kMul);
    const auto sum = scaled ? besideNumber(*scaled, 0.7978845608028654) : std::nullopt;
    const auto add = sum ? madeFor(*sum, *scaled, kAdd) : std::nullopt;
    if (!add || view_.inputCount(*add) != 3 || !isNumber(view_.input(*add, 2), 1)) return;
    for (const size_t place : {0, 1}) {
      const auto x = view_.input(*add, place);
      const auto cubic = madeFor(view_.input(*add, 1 - place), *add, kMul);
      const auto cube = cubic ? besideNumber(*cubic, 0.044715) : std::nullopt;
      const auto pow = cube ? madeFor(*cube, *cubic, "aten::pow") : std::nullopt;
      if (!pow || !view_.areSame(view_.input(*pow, 0), x) || !isNumber(view_.input(*pow, 1), 3)) continue;
      const auto made = view_.output(tanh);
      const auto plus = made ? view_.onlyReader(*made) : std::nullopt;
      if (!plus || view_.operatorOf(*plus) != kAdd || !besideNumber(*plus, 1)) return;
      const auto factor = view_.output(*plus);
      const auto product = factor ? view_.onlyReader(*factor) : std::nullopt;
      if (!product || view_.operatorOf(*product) != kMul || !view_.output(*product)) return;
      const auto other = view_.areSame(view_.input(*product, 0), *factor) ? 1 : 0;
      const auto half = madeFor(view_.input(*product, other), *product, kMul);
      const auto halved = half ? besideNumber(*half, 0.5) : std::nullopt;
      if (!halved || !view_.areSame(*halved, x) || !isOfPackedLinear(x)) return;
      if (!view_.mayMove(*half, *product) || !view_.mayMove(*pow, *product)) return;
      const auto how = view_.insertConstant(*product, c10::IValue("tanh"));
      view_.replace({*half, *pow, *cubic, *add, *scaled, tanh, *plus, *product}, geluOperator(), {x, how});
      return;
    }
  }

  void replaceChain(Node linear) {
    if (view_.inputCount(linear) != 3 || !view_.isTensor(view_.input(linear, 0)) || !view_.output(linear)) return;
    const auto weight = view_.weight(view_.input(linear, 1)), bias = view_.weight(view_.input(linear, 2));
    if (!weight || !*weight || !bias || !canPack(**weight, *bias)) return;
    Chain chain;
    chain.nodes.push_back(linear);
    chain.columns = (*weight)->size(0);
    if (const auto next = readerOf(chain)) takeActivation(chain, *next);
    if (const auto next = readerOf(chain)) takeResidual(chain, *next);
    if (const auto next = readerOf(chain)) takeNorm(chain, *next);

    const auto packed = packed_.of(**weight, *bias);
    const auto constant = [&](c10::IValue value) { return view_.insertConstant(chain.nodes.back(), std::move(value)); };
    const auto none = constant(c10::IValue());
    std::vector<Value> inputs{view_.input(linear, 0),       view_.input(linear, 1),
                              view_.input(linear, 2),       constant(packed.packed),
                              constant(packed.version),     constant(static_cast<int64_t>(chain.activation)),
                              chain.residual.value_or(none)};
    for (const size_t parameter : {2, 3, 4}) inputs.push_back(chain.norm ? view_.input(*chain.norm, parameter) : none);
    view_.replace(chain.nodes, linearOperator(), inputs);
  }

  // A layer whose only reader is another one.
  void joinFeedForward(Node second) {
    auto value = view_.input(second, kInput);
    std::vector<Node> nodes{second};  // the first layer ahead of the others
    std::optional<Node> first;
    do {
      first = view_.onlyReader(value) ? view_.producer(value) : std::nullopt;
      if (!first) return;
      nodes.insert(nodes.begin(), *first);
      if (isIdentity(*first)) value = view_.input(*first, 0);
    } while (isIdentity(*first));
    if (view_.operatorOf(*first) != "lta::linear" || !view_.mayMove(*first, second)) return;
    for (const size_t place : {kResidual, kEpsilon}) {
      const auto given = view_.constant(view_.input(*first, place));
      if (!given || !given->isNone()) return;
    }
    // An activation of the second layer isn't among the arguments.
    const auto activation = view_.constant(view_.input(second, kActivation));
    if (!activation || activation->toInt() != static_cast<int64_t>(Activation::None)) return;
    view_.replace(nodes, feedForwardOperator(), feedForwardArguments<Value>(inputsOf(*first), inputsOf(second)));
  }

  void replaceAttention(Node node) {
    const auto arguments = attentionOperator().schema().arguments().size();
    if (!layersPay() || view_.inputCount(node) != arguments || !view_.output(node)) return;
    view_.replace({node}, attentionOperator(), inputsOf(node));
  }

  std::vector<Value> inputsOf(Node node) const {
    std::vector<Value> inputs;
    for (size_t i = 0; i < view_.inputCount(node); ++i) inputs.push_back(view_.input(node, i));
    return inputs;
  }

  View& view_;
  PackedWeights packed_;
};

}  // namespace lta::fused
