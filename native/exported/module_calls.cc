#include "exported/module_calls.h"

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_set>
#include <utility>

#include "exported/passed_values.h"

namespace lta::exported {
namespace {

using Frames = std::vector<const ModuleFrame*>;

// The modules around a node, without the model itself.
Frames framesOf(const Node& node) {
  Frames frames;
  if (!node.modules) return frames;
  for (const auto& frame : *node.modules) {
    // Those without an identity are guessed (see region_names.h).
    if (!frame.name.empty() && !frame.identity.empty()) frames.push_back(&frame);
  }
  return frames;
}

bool startsWith(const Frames& frames, const Frames& first) {
  return frames.size() >= first.size() &&
         std::equal(first.begin(), first.end(), frames.begin(),
                    [](const auto* a, const auto* b) { return a->identity == b->identity; });
}

// Nodes that tell sizes, compute with them, or check something: they stand wherever the exporter puts them.
bool isOnSizes(const Node& node) {
  static const std::unordered_set<std::string> kOperators{
      "aten::sym_size",       "aten::sym_numel",           "aten::sym_stride",    "aten::sym_storage_offset",
      "aten::_assert_scalar", "aten::sym_constrain_range", "aten::_assert_async", "aten::sym_constrain_range_for_size"};
  if (node.kind == Node::Kind::Nothing || node.kind == Node::Kind::Number) return true;
  return node.handle && kOperators.count(node.handle->operator_name().name) != 0;
}

// Operators that give their input itself where there is nothing to do, and the exporter then takes both for one value.
bool mayBeSameValue(const Node& node) {
  static const std::unordered_set<std::string> kOperators{"aten::to",           "aten::type_as",     "aten::conj",
                                                          "aten::resolve_conj", "aten::resolve_neg", "aten::real",
                                                          "aten::positive"};
  return kOperators.count(node.handle->operator_name().name) != 0;
}

// Operators that may give their input itself, though their schemas don't say so.
bool mayGiveInput(const Node& node) {
  static const std::unordered_set<std::string> kOperators{"aten::dropout",         "aten::alpha_dropout",
                                                          "aten::feature_dropout", "aten::feature_alpha_dropout",
                                                          "aten::type_as",         "aten::pad"};
  return kOperators.count(node.handle->operator_name().name) != 0;
}

// Whether an argument of an operator is written to.
bool isWritten(const Node& node, size_t place) {
  const auto& arguments = node.handle->schema().arguments();
  return place < arguments.size() && arguments[place].alias_info() && arguments[place].alias_info()->isWrite();
}

// Operators that write to their first argument and give it back, as `relu_` does: what reads it later reads the result.
bool isInPlace(const Node& node) {
  const auto& returns = node.handle->schema().returns();
  return returns.size() == 1 && returns[0].alias_info() && returns[0].alias_info()->isWrite() && isWritten(node, 0);
}

template <typename Visit>
void eachResult(const Node& node, Visit visit) {
  const auto known = [&](int slot) {
    if (slot != kNoSlot) visit(slot < kNoSlot ? unread(slot) : slot);
  };
  for (const auto& result : node.results) {
    if (!result.isList) known(result.slot);
    for (const int slot : result.slots) known(slot);
  }
}

bool anyWrites(const Node& node) {
  if (node.handle) return node.handle->schema().is_mutable();
  return std::any_of(node.graphs.begin(), node.graphs.end(), [](const auto& graph) {
    return std::any_of(graph->nodes.begin(), graph->nodes.end(), anyWrites);
  });
}

class CallFinder {
 public:
  CallFinder(Graph& graph, const CallSignatures& signatures, std::vector<bool> isWeight,
             const std::vector<bool>& isState, Frames around)
      : graph_(graph),
        signatures_(signatures),
        isWeight_(std::move(isWeight)),
        isState_(isState),
        around_(std::move(around)) {}

  void find() {
    readRegions();
    readValues();
    for (const auto& region : regions_) graph_.calls.push_back(callOf(region));
    for (const auto& node : graph_.nodes) findInside(node);
  }

 private:
  static constexpr size_t kNoRegion = SIZE_MAX;

  // The nodes of one call of a module.
  struct Region {
    const ModuleFrame* frame;
    size_t first;
    size_t last;
    bool scattered = false;  // others stand between them
  };

  void readRegions() {
    std::vector<size_t> open;
    std::map<std::pair<size_t, std::string>, size_t> known;  // by the region around, and which call it is
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto& node = graph_.nodes[i];
      auto frames = framesOf(node);
      if (frames.empty() && isOnSizes(node)) continue;
      if (startsWith(frames, around_))
        frames.erase(frames.begin(), frames.begin() + static_cast<int64_t>(around_.size()));
      size_t common = 0;
      while (common < std::min(open.size(), frames.size()) &&
             regions_[open[common]].frame->identity == frames[common]->identity) {
        ++common;
      }
      open.resize(common);
      for (size_t depth = common; depth < frames.size(); ++depth) {
        const auto around = open.empty() ? kNoRegion : open.back();
        const auto [found, isNew] = known.emplace(std::pair(around, frames[depth]->identity), regions_.size());
        if (isNew) {
          regions_.push_back({frames[depth], i, i});
        } else {
          regions_[found->second].scattered = true;
        }
        open.push_back(found->second);
      }
      for (const auto each : open) regions_[each].last = i;
    }
  }

  // Where each value is made, and read.
  void readValues() {
    const auto count = static_cast<size_t>(graph_.slotCount);
    made_.assign(count, kBefore);
    readers_.resize(count);
    source_.resize(count);
    same_.resize(count);
    for (size_t slot = 0; slot < count; ++slot) source_[slot] = same_[slot] = static_cast<int>(slot);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const auto& node = graph_.nodes[i];
      int first = kNoSlot;
      for (const auto& argument : node.arguments) {
        eachSlot(argument, [&](int slot) {
          readers_[static_cast<size_t>(slot)].push_back(static_cast<int64_t>(i));
          if (first == kNoSlot && !isNumber(slot)) first = slot;
        });
      }
      const bool isView = node.handle && first != kNoSlot && (mayGiveInput(node) || givesAlias(node));
      const bool isSame = node.handle && first != kNoSlot && (mayBeSameValue(node) || isInPlace(node));
      eachResult(node, [&](int slot) {
        made_[static_cast<size_t>(slot)] = static_cast<int64_t>(i);
        if (isView) source_[static_cast<size_t>(slot)] = source_[static_cast<size_t>(first)];
        if (isSame) same_[static_cast<size_t>(slot)] = same_[static_cast<size_t>(first)];
      });
    }
    isStored_.assign(count, false);
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      const bool isState = i < isState_.size() && isState_[i];
      eachSlot(graph_.outputs[i], [&](int slot) {
        if (isState) {
          isStored_[static_cast<size_t>(slot)] = true;
        } else {
          readers_[static_cast<size_t>(slot)].push_back(INT64_MAX);
        }
      });
    }
  }

  static bool givesAlias(const Node& node) {
    const auto& returns = node.handle->schema().returns();
    return std::any_of(returns.begin(), returns.end(), [](const auto& each) { return each.alias_info() != nullptr; });
  }

  bool isNumber(int slot) const { return graph_.isNumber[static_cast<size_t>(slot)]; }
  bool isInside(int slot, const Region& region) const {
    return made_[static_cast<size_t>(slot)] >= static_cast<int64_t>(region.first) &&
           made_[static_cast<size_t>(slot)] <= static_cast<int64_t>(region.last);
  }

  ModuleCallSite callOf(const Region& region) const {
    ModuleCallSite call;
    call.module = region.frame->name;
    call.type = region.frame->type;
    call.identity = region.frame->identity;
    call.first = region.first;
    call.last = region.last;
    if (region.scattered) return call;
    const auto found = signatures_.find(region.frame->identity);
    if (found == signatures_.end() || !putExact(call, region, found->second)) putSingle(call, region);
    findReaders(call, region);
    return call;
  }

  void findReaders(ModuleCallSite& call, const Region& region) const {
    const auto outputs = call.outputs.value_or(std::vector<Argument>());
    std::unordered_set<int> given;
    for (const auto& output : outputs) given.insert(output.slot);
    for (size_t i = region.first; i <= region.last; ++i) {
      eachResult(graph_.nodes[i], [&](int slot) {
        if (!isReadBehind(slot, region) || isNumber(slot) || !isOfOthers(slot, region)) return;
        if (given.count(slot) == 0 || readersBehind(slot, region) > 1) call.mayReplaceInputs = false;
      });
    }
    for (const auto& output : outputs) {
      call.mayReplaceOutputs.push_back(output.slot != kNoSlot && isInside(output.slot, region) &&
                                       !isStored_[static_cast<size_t>(output.slot)] &&
                                       (!isOfOthers(output.slot, region) || readersBehind(output.slot, region) == 1));
    }
  }

  // How often what stands behind a call reads a value.
  size_t readersBehind(int slot, const Region& region) const {
    const auto& readers = readers_[static_cast<size_t>(slot)];
    return static_cast<size_t>(readers.end() -
                               std::upper_bound(readers.begin(), readers.end(), static_cast<int64_t>(region.last)));
  }
  // Whether a value may be one that others made.
  bool isOfOthers(int slot, const Region& region) const {
    const int same = same_[static_cast<size_t>(slot)];
    return !isInside(same, region) && !isWeight_[static_cast<size_t>(same)];
  }

  bool isReadBehind(int slot, const Region& region) const { return readersBehind(slot, region) > 0; }

  // A value has to be there where the hook is called.
  bool putExact(ModuleCallSite& call, const Region& region, const CallSignature& signature) const {
    const auto before = [&](const Argument& argument) {
      return argument.slot == kNoSlot || made_[static_cast<size_t>(argument.slot)] < static_cast<int64_t>(region.first);
    };
    const auto behind = [&](const Argument& argument) {
      return argument.slot == kNoSlot || made_[static_cast<size_t>(argument.slot)] <= static_cast<int64_t>(region.last);
    };
    if (!std::all_of(signature.inputs.begin(), signature.inputs.end(), before)) return false;
    if (!std::all_of(signature.outputs.begin(), signature.outputs.end(), behind)) return false;
    call.inputs = signature.inputs;
    call.outputs = signature.outputs;
    call.exact = true;
    return true;
  }

  void putSingle(ModuleCallSite& call, const Region& region) const {
    std::vector<int> in, out, same;
    bool isClear = true;
    // More than one isn't told apart further.
    const auto add = [](std::vector<int>& to, int slot) {
      if (to.size() < 2 && std::find(to.begin(), to.end(), slot) == to.end()) to.push_back(slot);
    };
    for (size_t i = region.first; i <= region.last; ++i) {
      const auto& node = graph_.nodes[i];
      for (size_t place = 0; place < node.arguments.size(); ++place) {
        const bool writes = node.handle ? isWritten(node, place) : anyWrites(node);
        eachSlot(node.arguments[place], [&](int slot) {
          if (isWeight_[static_cast<size_t>(slot)] || isNumber(slot)) return;
          if (!isInside(slot, region)) add(in, slot);
          const int source = source_[static_cast<size_t>(slot)];
          if (!writes || isWeight_[static_cast<size_t>(source)] || isInside(source, region)) return;
          call.writesToOthers = true;
          // As a whole, it is the result that others go on with; of a part nothing tells whether it comes out.
          isClear = isClear && node.handle && isInPlace(node) && place == 0 && isOfOthers(slot, region);
        });
      }
      eachResult(node, [&](int slot) {
        if (!isReadBehind(slot, region)) return;
        if (!isNumber(slot)) {
          add(isOfOthers(slot, region) ? same : out, slot);
        } else if (!isOnSizes(node)) {
          isClear = false;
        }
      });
    }
    if (!isClear) return;
    if (in.size() == 1) call.inputs = {slotArgument(in.front())};
    // What it was given comes out only where nothing else does: else others go on with it.
    if (out.empty()) out = std::move(same);
    if (out.size() == 1) call.outputs = {slotArgument(out.front())};
  }

  // Calls in the graphs that a node runs.
  void findInside(const Node& node) const {
    for (const auto& inner : node.graphs) {
      std::vector<bool> isWeight(static_cast<size_t>(inner->slotCount), false);
      for (const auto& [outer, slot] : passedValues(node, *inner)) {
        isWeight[static_cast<size_t>(slot)] = isWeight_[static_cast<size_t>(outer)];
      }
      CallFinder(*inner, signatures_, std::move(isWeight), {}, framesOf(node)).find();
    }
  }

  static constexpr int64_t kBefore = -1;

  Graph& graph_;
  const CallSignatures& signatures_;
  const std::vector<bool> isWeight_;
  const std::vector<bool> isState_;
  const Frames around_;  // modules that were called around the graph
  std::vector<Region> regions_;
  std::vector<int64_t> made_;
  std::vector<std::vector<int64_t>> readers_;  // of each value: nodes, in order
  std::vector<bool> isStored_;                 // of each value: the new one of what was there before
  std::vector<int> source_;                    // of views: the value that they are views of
  std::vector<int> same_;                      // of what may be another value: that
};

// Whether each value stands in one place only, and outputs are the module's own.
bool areSeparate(const ModuleCallSite& call) {
  const auto& own = call.mayReplaceOutputs;
  for (size_t i = 0; i < own.size(); ++i) {
    if (!own[i] && (*call.outputs)[i].slot != kNoSlot) return false;
  }
  // Python's backward hooks don't take a module that writes to its input either.
  if (!call.mayReplaceInputs || call.writesToOthers) return false;
  std::unordered_set<int> met;
  for (const auto* values : {&call.inputs, &call.outputs}) {
    if (!*values) continue;
    for (const auto& each : **values) {
      if (each.slot != kNoSlot && !met.insert(each.slot).second) return false;
    }
  }
  return true;
}

template <typename Visit>
void eachCall(const Graph& graph, const Visit& visit) {
  for (const auto& call : graph.calls) visit(call);
  for (const auto& node : graph.nodes) {
    for (const auto& inner : node.graphs) eachCall(*inner, visit);
  }
}

}  // namespace

void findModuleCalls(Graph& graph, const CallSignatures& signatures, const std::vector<int>& weights,
                     const std::vector<bool>& isState) {
  std::vector<bool> isWeight(static_cast<size_t>(graph.slotCount), false);
  for (const int slot : weights) isWeight[static_cast<size_t>(slot)] = true;
  CallFinder(graph, signatures, std::move(isWeight), isState, {}).find();
}

std::unordered_map<std::string, ModuleHooks> hooksOfModules(const Graph& graph, const CallSignatures& signatures) {
  std::unordered_map<std::string, ModuleHooks> hooks;
  std::unordered_map<std::string, size_t> met;  // by call
  std::unordered_set<std::string> unclear;
  eachCall(graph, [&](const ModuleCallSite& call) {
    // The nodes of one call in two graphs: none of them is the whole of it.
    if (!met.emplace(call.identity, 0).second) unclear.insert(call.module);
    const auto [found, isFirst] = hooks.try_emplace(call.module);
    auto& module = found->second;
    const bool inputs = call.inputs.has_value(), outputs = call.outputs.has_value(), separate = areSeparate(call);
    const auto kind = call.exact          ? ModuleHooks::Kind::Exact
                      : inputs || outputs ? ModuleHooks::Kind::Single
                                          : ModuleHooks::Kind::None;
    if (isFirst) {
      module.kind = kind;
      module.inputs = inputs;
      module.outputs = outputs;
      module.separate = separate;
      if (call.exact) {
        const auto& signature = signatures.at(call.identity);
        module.inputTree = signature.inputTree.children[0];
        module.outputTree = signature.outputTree;
      }
    } else {
      if (kind != module.kind) module.kind = ModuleHooks::Kind::None;
      module.inputs = module.inputs && inputs;
      module.outputs = module.outputs && outputs;
      module.separate = module.separate && separate;
    }
  });
  for (auto& [name, module] : hooks) {
    if (unclear.count(name) || (!module.inputs && !module.outputs)) module.kind = ModuleHooks::Kind::None;
  }
  return hooks;
}

}  // namespace lta::exported
