#include "exported/recomposition.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exported/argument_reader.h"
#include "exported/graph_index.h"
#include "fused/operators.h"

namespace lta::exported {
namespace {

using Kind = Argument::Kind;

constexpr const char* kView = "aten::view";
constexpr const char* kLinear = "aten::linear";
constexpr const char* kLayerNorm = "aten::layer_norm";

c10::OperatorHandle operatorOf(const char* name) { return c10::Dispatcher::singleton().findSchemaOrThrow(name, ""); }

// A dimension of a shape: a number, or the slot of one.
using Sizes = std::vector<Argument::Item>;

bool areEqual(const Sizes& first, const Sizes& second) {
  return std::equal(first.begin(), first.end(), second.begin(), second.end(), [](const auto& one, const auto& other) {
    if (one.slot != kNoSlot || other.slot != kNoSlot) return one.slot == other.slot;
    return one.constant.toInt() == other.constant.toInt();
  });
}

// What a list of integers holds, if each is known or has a slot: none is -1, which stands for what is left.
std::optional<Sizes> sizesIn(const Argument& argument) {
  Sizes sizes;
  if (argument.kind == Kind::Constant && argument.constant.isIntList()) {
    for (const int64_t size : argument.constant.toIntVector()) {
      if (size < 0) return std::nullopt;
      sizes.push_back({kNoSlot, size});
    }
    return sizes;
  }
  if (argument.kind != Kind::Integers) return std::nullopt;
  for (const auto& item : argument.items) {
    if (item.slot == kNoSlot && (!item.constant.isInt() || item.constant.toInt() < 0)) return std::nullopt;
    sizes.push_back(item);
  }
  return sizes;
}

Argument argumentOf(const Sizes& sizes) {
  std::vector<int64_t> numbers;
  for (const auto& size : sizes) {
    if (size.slot == kNoSlot) numbers.push_back(size.constant.toInt());
  }
  if (numbers.size() == sizes.size()) return constantArgument(std::move(numbers));
  Argument argument;
  argument.kind = Kind::Integers;
  argument.items = sizes;
  return argument;
}

class Recomposition {
 public:
  explicit Recomposition(const Program& program)
      : graph_(program.graph), index_(program, graph_), shapes_(static_cast<size_t>(graph_.slotCount)) {
    writes_ = std::any_of(program.outputs.begin(), program.outputs.end(),
                          [](const Output& output) { return output.kind == Output::Kind::Weight; }) ||
              std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [](const Node& node) {
                return !node.graphs.empty() || (node.handle && node.handle->schema().is_mutable());
              });
  }

  Graph take() {
    for (size_t place = 0; place < graph_.nodes.size(); ++place) {
      replaceNorm(graph_.nodes[place]);
      replaceProduct(place);
      noteShape(graph_.nodes[place]);
    }
    removeUnread();
    return std::move(graph_);
  }

 private:
  static std::string nameOf(const Node& node) {
    if (node.kind != Node::Kind::Operator || !node.handle) return {};
    return node.handle->operator_name().name;
  }

  // The slot of a tensor that is the only result.
  static int resultOf(const Node& node) {
    return node.results.size() == 1 && !node.results[0].isList ? node.results[0].slot : kNoSlot;
  }

  const Node* producerOf(const Argument& argument) const {
    const auto producer = index_.producer(slotOf(argument));
    return producer ? &graph_.nodes[*producer] : nullptr;
  }

  static void become(Node& node, const char* name, std::vector<Argument> arguments) {
    node.handle = operatorOf(name);
    node.target = name;
    node.check = checkOf(node.handle->schema(), /*dispatched=*/true);
    node.arguments = std::move(arguments);
  }

  void replaceNorm(Node& node) {
    if (nameOf(node) != "aten::native_layer_norm" || node.arguments.size() != 5 || node.results.size() != 3) return;
    for (const size_t place : {1, 2}) {
      const auto& result = node.results[place];
      if (result.isList || (result.slot >= 0 && !index_.readers(result.slot).empty())) return;
    }
    const auto normalized = sizesIn(node.arguments[1]);
    // Only of what a fused layer can take: the same bits, but libtorch computes it by another path elsewhere.
    if (!normalized || normalized->size() != 1 || !layersPay()) return;
    auto arguments = node.arguments;
    arguments.push_back(constantArgument(true));
    become(node, kLayerNorm, std::move(arguments));
    node.results.resize(1);
  }

  at::Tensor weightIn(const Argument& argument) const { return index_.weight(slotOf(argument)); }

  // Whether a node exchanges the dimensions of a matrix.
  static bool transposes(const Node& node) {
    const auto name = nameOf(node);
    if (name == "aten::t") return true;
    if (name == "aten::permute" && node.arguments.size() == 2) {
      const auto& order = node.arguments[1];
      if (order.kind != Kind::Constant || !order.constant.isIntList()) return false;
      const auto given = order.constant.toIntVector();
      return given.size() == 2 && (given[0] + 2) % 2 == 1 && (given[1] + 2) % 2 == 0;
    }
    if (name != "aten::transpose" || node.arguments.size() != 3) return false;
    const auto &first = node.arguments[1], &second = node.arguments[2];
    if (first.kind != Kind::Constant || second.kind != Kind::Constant || !first.constant.isInt() ||
        !second.constant.isInt()) {
      return false;
    }
    return (first.constant.toInt() + 2) % 2 != (second.constant.toInt() + 2) % 2;
  }

  struct Factor {
    Argument argument;  // of linear, [columns, depth]
    at::Tensor weight;
  };

  // The right side of a product as a linear takes it.
  std::optional<Factor> factorOf(const Argument& right) const {
    if (const auto weight = weightIn(right); weight.defined()) {
      // A constant is no slot, by which writes to a weight would be told.
      if (weight.dim() != 2 || writes_) return std::nullopt;
      // A view: it shows what is written to the weight, and has its version.
      const auto transposed = weight.detach().t();
      return Factor{constantArgument(transposed), transposed};
    }
    const auto* const node = producerOf(right);
    if (!node || !transposes(*node)) return std::nullopt;
    const auto weight = weightIn(node->arguments[0]);
    if (!weight.defined() || weight.dim() != 2) return std::nullopt;
    return Factor{slotArgument(slotOf(node->arguments[0])), weight};
  }

  // Whether what the node at `first` computes may be computed where the one at `last` is.
  bool mayMove(size_t first, size_t last) const {
    return last > first && std::all_of(graph_.nodes.begin() + static_cast<int64_t>(first) + 1,
                                       graph_.nodes.begin() + static_cast<int64_t>(last), isQuiet);
  }

  // Whether weights of attention may be made of what a node gives, before the next product: whether a layer or a
  // product with keys that were learned makes the scores is told by the operator, which stays.
  bool leadsToWeights(size_t place) const {
    constexpr std::array<std::string_view, 9> kMakers{"aten::softmax",      "aten::_softmax",      "aten::log_softmax",
                                                      "aten::_log_softmax", "aten::_safe_softmax", "aten::exp",
                                                      "aten::sigmoid",      "aten::topk",          "aten::sort"};
    constexpr std::array<std::string_view, 9> kEnds{
        "aten::addmm",  "aten::mm",      "aten::bmm",
        "aten::matmul", "aten::linear",  "aten::native_layer_norm",
        kLayerNorm,     "aten::baddbmm", "aten::scaled_dot_product_attention"};
    const auto isIn = [](const auto& names, const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    std::vector<bool> seen(graph_.nodes.size());
    std::vector<size_t> open{place};
    while (!open.empty()) {
      const auto& node = graph_.nodes[open.back()];
      open.pop_back();
      bool leads = false;
      eachResultSlot(node, [&](int slot) {
        for (const size_t reader : index_.readers(slot)) {
          if (reader == GraphIndex::kOutput || seen[reader]) continue;
          seen[reader] = true;
          const auto name = nameOf(graph_.nodes[reader]);
          leads = leads || name.empty() || isIn(kMakers, name);
          if (!isIn(kEnds, name)) open.push_back(reader);
        }
      });
      if (leads) return true;
    }
    return false;
  }

  void replaceProduct(size_t place) {
    auto& node = graph_.nodes[place];
    if (nameOf(node) != "aten::addmm" || node.arguments.size() != 5 || resultOf(node) < 0) return;
    const fused::OptionalTensor bias = weightIn(node.arguments[0]);
    const auto isOne = [](const Argument& argument) {
      return argument.kind == Kind::Constant && argument.constant.isScalar() && argument.constant.toScalar().equal(1);
    };
    const auto factor = factorOf(node.arguments[2]);
    if (!bias->defined() || !isOne(node.arguments[3]) || !isOne(node.arguments[4]) ||
        slotOf(node.arguments[1]) == kNoSlot || !factor || !fused::canPack(factor->weight, bias) ||
        leadsToWeights(place)) {
      return;
    }
    std::vector<Argument> arguments{node.arguments[1], factor->argument, node.arguments[0]};
    if (!moveBehindView(place, factor->weight.size(0), factor->weight.size(1), arguments)) {
      become(node, kLinear, std::move(arguments));
    }
  }

  // view(linear(rows), [.., columns]) is linear(view(rows, [.., depth])), and what follows it has its shape.
  bool moveBehindView(size_t place, int64_t columns, int64_t depth, std::vector<Argument>& arguments) {
    const int result = resultOf(graph_.nodes[place]);
    const auto& readers = index_.readers(result);
    if (readers.size() != 1 || readers[0] == GraphIndex::kOutput) return false;
    const size_t behind = readers[0];
    auto &node = graph_.nodes[place], &view = graph_.nodes[behind];
    if ((nameOf(view) != kView && nameOf(view) != "aten::_unsafe_view") || view.arguments.size() != 2 ||
        slotOf(view.arguments[0]) != result || resultOf(view) < 0 || !mayMove(place, behind)) {
      return false;
    }
    auto sizes = sizesIn(view.arguments[1]);
    if (!sizes || sizes->empty() || sizes->back().slot != kNoSlot || sizes->back().constant.toInt() != columns) {
      return false;
    }
    sizes->back().constant = depth;
    // What it is a view of may have that shape already.
    std::optional<Argument> shaped;
    const auto* const rows = producerOf(arguments[0]);
    if (rows && (nameOf(*rows) == kView || nameOf(*rows) == "aten::_unsafe_view")) {
      const int source = slotOf(rows->arguments[0]);
      const auto& shape = source == kNoSlot ? std::nullopt : shapes_[static_cast<size_t>(source)];
      if (shape && areEqual(*shape, *sizes)) shaped = slotArgument(source);
    }
    const auto name = node.name;
    const auto modules = node.modules;
    if (shaped) {
      node = Node();
    } else {
      // The product's node makes the view instead.
      shaped = slotArgument(graph_.slotCount++);
      graph_.isNumber.push_back(false);
      index_.addSlot(shaped->slot, place, behind);
      shapes_.emplace_back(*sizes);
      become(node, kView, {arguments[0], argumentOf(*sizes)});
      node.results[0].slot = shaped->slot;
    }
    arguments[0] = *shaped;
    become(view, kLinear, std::move(arguments));
    view.name = name;
    view.modules = modules;
    return true;
  }

  // Views that the new nodes don't need: to the matcher they would be readers.
  void removeUnread() {
    std::vector<bool> read(static_cast<size_t>(graph_.slotCount));
    const auto note = [&](const Argument& argument) {
      eachSlot(argument, [&](int slot) { read[static_cast<size_t>(slot)] = true; });
    };
    for (const auto& output : graph_.outputs) note(output);
    for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
      const int result = resultOf(*node);
      const bool isView = nameOf(*node) == kView || nameOf(*node) == "aten::_unsafe_view" || transposes(*node);
      if (isView && result >= 0 && !read[static_cast<size_t>(result)]) *node = Node();
      for (const auto& argument : node->arguments) note(argument);
    }
  }

  const std::optional<Sizes>& shapeIn(const Argument& argument) const {
    static const std::optional<Sizes> kNone;
    const int slot = slotOf(argument);
    return slot == kNoSlot ? kNone : shapes_[static_cast<size_t>(slot)];
  }

  // Shapes that views and layers tell, and that stay behind them.
  void noteShape(const Node& node) {
    constexpr std::array<std::string_view, 9> kElementwise{"aten::gelu",  "aten::relu",    "aten::silu",
                                                           "aten::tanh",  "aten::sigmoid", "aten::clone",
                                                           "aten::alias", "aten::dropout", kLayerNorm};
    constexpr std::array<std::string_view, 3> kOfTwo{"aten::mul", "aten::add", "aten::pow"};
    const int result = resultOf(node);
    if (result < 0 || node.arguments.empty()) return;
    const auto name = nameOf(node);
    auto& shape = shapes_[static_cast<size_t>(result)];
    if (name == kView && node.arguments.size() == 2) {
      shape = sizesIn(node.arguments[1]);
    } else if (name == kLinear) {
      const auto weight =
          slotOf(node.arguments[1]) == kNoSlot ? node.arguments[1].constant.toTensor() : weightIn(node.arguments[1]);
      shape = shapeIn(node.arguments[0]);
      if (!weight.defined() || weight.dim() != 2) shape = std::nullopt;
      if (shape && !shape->empty()) shape->back() = {kNoSlot, weight.size(0)};
    } else if (std::find(kElementwise.begin(), kElementwise.end(), name) != kElementwise.end()) {
      shape = shapeIn(node.arguments[0]);
    } else if (std::find(kOfTwo.begin(), kOfTwo.end(), name) != kOfTwo.end()) {
      // A number beside it leaves the shape as it is.
      const auto &first = shapeIn(node.arguments[0]), &second = shapeIn(node.arguments[1]);
      if (first && node.arguments[1].kind == Kind::Constant && node.arguments[1].constant.isScalar()) shape = first;
      if (first && second && areEqual(*first, *second)) shape = first;
    }
  }

  Graph graph_;
  GraphIndex index_;
  std::vector<std::optional<Sizes>> shapes_;  // by slot
  bool writes_ = false;                       // anything to what may be a weight
};

}  // namespace

Graph recomposed(const Program& program) { return Recomposition(program).take(); }

}  // namespace lta::exported
