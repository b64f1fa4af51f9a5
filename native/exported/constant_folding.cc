#include "exported/constant_folding.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace lta::exported {
namespace {

using c10::IValue;

// Composite operators whose schema says nothing of aliases may return their input (`dropout` in eval mode does). These
// never do.
constexpr std::array<std::string_view, 9> kFresh{
    "aten::linear", "aten::matmul",      "aten::layer_norm",
    "aten::conv1d", "aten::embedding",   "aten::scaled_dot_product_attention",
    "lta::linear",  "lta::feed_forward", "lta::attention"};

bool mayReturnItsInput(const c10::OperatorHandle& handle) {
  if (std::find(kFresh.begin(), kFresh.end(), handle.operator_name().name) != kFresh.end()) return false;
  return handle.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
}

bool isOurs(const c10::OperatorHandle& handle) {
  const auto space = handle.operator_name().getNamespace();
  return space == "aten" || space == "prims" || space == "lta";
}

bool writesAnything(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return (node.handle && (node.handle->schema().is_mutable() || !isOurs(*node.handle))) ||
           std::any_of(node.graphs.begin(), node.graphs.end(),
                       [](const auto& inner) { return writesAnything(*inner); });
  });
}

// Sets of slots that may share memory, and the nodes that write to each.
class Aliases {
 public:
  explicit Aliases(const Graph& graph) : parent_(static_cast<size_t>(graph.slotCount)) {
    std::iota(parent_.begin(), parent_.end(), 0);
    for (const auto& node : graph.nodes) add(graph, node);
  }

  int setOf(int slot) const {
    while (parent_[static_cast<size_t>(slot)] != slot) slot = parent_[static_cast<size_t>(slot)];
    return slot;
  }

 private:
  void add(const Graph& graph, const Node& node) {
    std::vector<int> shared;
    const auto share = [&](int slot) {
      if (!graph.isNumber[static_cast<size_t>(slot)]) shared.push_back(slot);
    };
    if (node.kind == Node::Kind::Number || node.kind == Node::Kind::Nothing) return;
    const bool isKnown = node.kind == Node::Kind::Operator && node.handle && isOurs(*node.handle);
    bool resultsShare = !isKnown;
    bool argumentsShare = !isKnown;
    if (isKnown) {
      const auto& schema = node.handle->schema();
      argumentsShare = mayReturnItsInput(*node.handle);
      resultsShare = argumentsShare || std::any_of(schema.returns().begin(), schema.returns().end(),
                                                   [](const c10::Argument& each) { return each.alias_info(); });
    }
    if (!resultsShare) return;
    for (size_t i = 0; i < node.arguments.size(); ++i) {
      if (argumentsShare || node.handle->schema().arguments()[i].alias_info()) eachSlot(node.arguments[i], share);
    }
    eachResultSlot(node, share);
    for (size_t i = 1; i < shared.size(); ++i) join(shared[0], shared[i]);
  }

  void join(int first, int second) { parent_[static_cast<size_t>(setOf(second))] = setOf(first); }

  std::vector<int> parent_;
};

// Calls `visit` with each slot whose memory a node may write to.
template <typename Visit>
void eachWritten(const Node& node, Visit visit) {
  if (node.kind == Node::Kind::Operator && node.handle && isOurs(*node.handle)) {
    const auto& arguments = node.handle->schema().arguments();
    for (size_t i = 0; i < node.arguments.size(); ++i) {
      const auto* const alias = arguments[i].alias_info();
      if (alias && alias->isWrite()) eachSlot(node.arguments[i], visit);
    }
    return;
  }
  const bool writes = node.kind == Node::Kind::Operator
                          ? !node.handle || node.handle->schema().is_mutable()
                          : std::any_of(node.graphs.begin(), node.graphs.end(),
                                        [](const auto& inner) { return writesAnything(*inner); });
  if (!writes) return;
  for (const auto& argument : node.arguments) eachSlot(argument, visit);
}

bool mayBeFolded(const Node& node) {
  if (node.kind == Node::Kind::Number) return true;
  // What gives nothing is called for what it does, in each run.
  return node.kind == Node::Kind::Operator && node.handle && isOurs(*node.handle) &&
         !node.handle->schema().returns().empty() && !node.handle->hasTag(at::Tag::nondeterministic_seeded);
}

// Which nodes can be folded.
class Plan {
 public:
  Plan(const Program& program, const Graph& graph) : graph_(graph), aliases_(graph) {
    weights_.resize(static_cast<size_t>(graph_.slotCount));
    for (const int slot : slotsOfWeights(program)) weights_[static_cast<size_t>(slot)] = true;
    // Memory that is others' as well: what users give and get, and weights that the program gives new values.
    for (const int slot : graph_.inputs) {
      if (slot != kNoSlot && !weights_[static_cast<size_t>(slot)]) barred_.insert(aliases_.setOf(slot));
    }
    for (const auto& output : graph_.outputs) eachSlot(output, [&](int slot) { barred_.insert(aliases_.setOf(slot)); });
    for (const auto& output : program.outputs) {
      if (output.kind != Output::Kind::Weight) continue;
      for (const auto& bound : program.bound) {
        if (bound.weight == output.place) barred_.insert(aliases_.setOf(bound.slot));
      }
    }
    // A weight that nodes write to differs from run to run.
    std::unordered_set<int> setsOfWeights;
    for (size_t slot = 0; slot < weights_.size(); ++slot) {
      if (weights_[slot]) setsOfWeights.insert(aliases_.setOf(static_cast<int>(slot)));
    }
    for (const auto& node : graph_.nodes) {
      eachWritten(node, [&](int slot) {
        if (setsOfWeights.count(aliases_.setOf(slot))) barred_.insert(aliases_.setOf(slot));
      });
    }
  }

  std::vector<bool> folded() {
    for (;;) {
      findConstants();
      if (!barMore()) return folded_;
    }
  }

 private:
  bool touchesBarred(const Node& node) const {
    bool touches = false;
    const auto look = [&](int slot) {
      touches = touches || (!graph_.isNumber[static_cast<size_t>(slot)] && barred_.count(aliases_.setOf(slot)) != 0);
    };
    for (const auto& argument : node.arguments) eachSlot(argument, look);
    eachResultSlot(node, look);
    return touches;
  }

  void findConstants() {
    auto known = weights_;
    folded_.assign(graph_.nodes.size(), false);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto& node = graph_.nodes[i];
      bool isConstant = mayBeFolded(node) && !touchesBarred(node);
      for (const auto& argument : node.arguments) {
        eachSlot(argument, [&](int slot) { isConstant = isConstant && known[static_cast<size_t>(slot)]; });
      }
      if (!isConstant) continue;
      folded_[i] = true;
      eachResultSlot(node, [&](int slot) { known[static_cast<size_t>(slot)] = true; });
    }
  }

  // Memory that a node writes to in each run can't be kept, nor what another node reads before a write that is folded.
  bool barMore() {
    const auto before = barred_.size();
    std::unordered_set<int> readBefore;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto& node = graph_.nodes[i];
      eachWritten(node, [&](int slot) {
        const int set = aliases_.setOf(slot);
        if (!folded_[i] || readBefore.count(set)) barred_.insert(set);
      });
      if (folded_[i]) continue;
      const auto note = [&](int slot) { readBefore.insert(aliases_.setOf(slot)); };
      for (const auto& argument : node.arguments) eachSlot(argument, note);
    }
    return barred_.size() != before;
  }

  const Graph& graph_;
  const Aliases aliases_;
  std::vector<bool> weights_;       // by slot
  std::unordered_set<int> barred_;  // sets of slots
  std::vector<bool> folded_;        // by node
};

}  // namespace

struct FoldedProgram::Values {
  std::vector<IValue> list;
};

FoldedProgram::FoldedProgram(const Program& program, const Graph& graph) {
  const auto folded = Plan(program, graph).folded();
  constants_.slotCount = rest_.slotCount = graph.slotCount;
  rest_.outputs = graph.outputs;
  std::vector<bool> made(static_cast<size_t>(graph.slotCount));
  std::vector<bool> read(static_cast<size_t>(graph.slotCount));
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    (folded[i] ? constants_ : rest_).nodes.push_back(node);
    if (folded[i]) {
      eachResultSlot(node, [&](int slot) { made[static_cast<size_t>(slot)] = true; });
    } else {
      for (const auto& argument : node.arguments) {
        eachSlot(argument, [&](int slot) { read[static_cast<size_t>(slot)] = true; });
      }
    }
  }
  for (const auto& output : graph.outputs) eachSlot(output, [&](int slot) { read[static_cast<size_t>(slot)] = true; });
  for (int slot = 0; slot < graph.slotCount; ++slot) {
    if (!made[static_cast<size_t>(slot)] || !read[static_cast<size_t>(slot)]) continue;
    slots_.push_back(slot);
    constants_.outputs.push_back(slotArgument(slot));
  }
  auto kept = slotsOfWeights(program);
  findLastUses(constants_, kept);
  kept.insert(kept.end(), slots_.begin(), slots_.end());
  findLastUses(rest_, kept);
}

std::vector<std::string> FoldedProgram::foldedNodes() const {
  std::vector<std::string> names;
  for (const auto& node : constants_.nodes) names.push_back(node.name);
  return names;
}

std::shared_ptr<const FoldedProgram::Values> FoldedProgram::values(const Frame& weights) {
  const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (!lock) return nullptr;
  if (!values_) values_ = std::make_shared<const Values>(Values{runGraph(constants_, weights)});
  return values_;
}

std::vector<IValue> FoldedProgram::run(const Values& values, Frame frame) const {
  for (size_t i = 0; i < slots_.size(); ++i) frame[static_cast<size_t>(slots_[i])] = values.list[i];
  return runGraph(rest_, std::move(frame));
}

}  // namespace lta::exported
