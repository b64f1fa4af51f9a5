#include "exported/region_names.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "exported/passed_values.h"

namespace lta::exported {
namespace {

using Owners = std::vector<std::string>;

bool isWithin(std::string_view name, std::string_view module) {
  return name.starts_with(module) && (name.size() == module.size() || name[module.size()] == '.');
}

// What one name has in place of the other, without the parts at their ends that are the same.
std::pair<std::string, std::string> differingParts(std::string first, std::string second) {
  for (;;) {
    const auto dot = first.rfind('.'), other = second.rfind('.');
    if (dot == std::string::npos || other == std::string::npos || first.substr(dot) != second.substr(other)) {
      return {std::move(first), std::move(second)};
    }
    first.resize(dot);
    second.resize(other);
  }
}

// The modules of one call of a region, by those that are written there.
class Names {
 public:
  Names(const Graph& region, const Owners& owners, const ModuleStacks& modules) {
    for (const auto& node : region.nodes) {
      const auto& module = node.module();
      for (const auto& argument : node.arguments) {
        eachSlot(argument, [&](int slot) {
          const auto& owner = owners[static_cast<size_t>(slot)];
          // A weight that several modules share is named after one of them: those are of other types.
          if (owner.empty() || module.empty() || !modules.mayBeAlike(owner, module)) return;
          const auto [written, actual] = differingParts(module, owner);
          if (!names_.emplace(written, actual).second && names_[written] != actual) isClear_ = false;
        });
      }
    }
  }

  bool changeAnything() const {
    return isClear_ &&
           std::any_of(names_.begin(), names_.end(), [](const auto& each) { return each.first != each.second; });
  }

  std::string of(const std::string& name) const {
    // The longest one that it is in.
    const std::pair<const std::string, std::string>* best = nullptr;
    for (const auto& each : names_) {
      if (isWithin(name, each.first) && (!best || each.first.size() > best->first.size())) best = &each;
    }
    return best ? best->second + name.substr(best->first.size()) : name;
  }

 private:
  std::map<std::string, std::string> names_;
  bool isClear_ = true;
};

class Renaming {
 public:
  Renaming(const Names& names, ModuleStacks& modules) : names_(names), modules_(modules) {}

  void rename(Graph& graph) {
    eachNode(graph, [&](Node& node) {
      if (node.modules) node.modules = renamed(node.modules);
    });
  }

 private:
  ModuleStackPtr renamed(const ModuleStackPtr& stack) {
    auto& known = stacks_[stack.get()];
    if (known) return known;
    auto made = std::make_shared<ModuleStack>(*stack);
    for (auto& frame : *made) {
      auto name = names_.of(frame.name);
      frame.identity = name + frame.identity.substr(frame.name.size());
      frame.name = std::move(name);
      modules_.add(frame);
    }
    return known = std::move(made);
  }

  const Names& names_;
  ModuleStacks& modules_;
  std::map<const ModuleStack*, ModuleStackPtr> stacks_;
};

// The module that all of these are in.
std::string commonModule(const std::set<std::string>& modules) {
  std::string common = *modules.begin();
  for (const auto& module : modules) {
    while (!common.empty() && !isWithin(module, common)) {
      const auto dot = common.rfind('.');
      common.resize(dot == std::string::npos ? 0 : dot);
    }
  }
  return common;
}

std::string parentOf(const std::string& module) {
  const auto dot = module.rfind('.');
  return dot == std::string::npos ? std::string() : module.substr(0, dot);
}

// The modules that compute something of their own: with others inside, or with weights that no layer has.
std::set<std::string> composedModules(const std::vector<std::string>& weights) {
  constexpr std::string_view kOfLayers[] = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"};
  // Names of a file may have any number of parts.
  constexpr int kDeepest = 100;
  std::set<std::string> composed;
  for (const auto& name : weights) {
    auto module = parentOf(name);
    const auto weight = std::string_view(name).substr(module.empty() ? 0 : module.size() + 1);
    const bool isOfLayer = std::find(std::begin(kOfLayers), std::end(kOfLayers), weight) != std::end(kOfLayers);
    if (isOfLayer) module = parentOf(module);
    for (int depth = 0; depth < kDeepest && !module.empty() && composed.insert(module).second; ++depth) {
      module = parentOf(module);
    }
  }
  return composed;
}

// Gives modules to the nodes of a graph that have none.
class Attribution {
 public:
  Attribution(const Graph& graph, const Owners& owners, const std::set<std::string>& composed, ModuleStackPtr around)
      : owners_(owners),
        composed_(composed),
        around_(std::move(around)),
        sources_(static_cast<size_t>(graph.slotCount)) {}

  void attribute(Graph& graph) {
    for (auto& node : graph.nodes) {
      std::set<std::string> modules;
      if (node.modules && !node.modules->empty()) {
        modules.insert(node.module());
      } else {
        modules = modulesOf(node);
        node.modules = stackOf(moduleOf(modules));
      }
      eachResultSlot(node, [&](int slot) { sources_[static_cast<size_t>(slot)] = modules; });
    }
  }

 private:
  // Those of its weights, or those that its operands are from.
  std::set<std::string> modulesOf(const Node& node) {
    std::set<std::string> own, given;
    for (const auto& argument : node.arguments) {
      eachSlot(argument, [&](int slot) {
        const auto& owner = owners_[static_cast<size_t>(slot)];
        if (!owner.empty()) own.insert(owner);
        given.insert(sources_[static_cast<size_t>(slot)].begin(), sources_[static_cast<size_t>(slot)].end());
      });
    }
    hasWeight_ = !own.empty();
    return hasWeight_ ? own : given;
  }

  // What has a weight is its module's, as far as that tells; what brings several together that of all of them. What
  // goes on with what a layer made is of the module that has the layer.
  std::string moduleOf(const std::set<std::string>& modules) const {
    if (modules.empty()) return {};
    auto module = commonModule(modules);
    const bool isBehindLayer = !hasWeight_ && modules.size() == 1 && composed_.count(module) == 0;
    return isBehindLayer ? parentOf(module) : module;
  }

  ModuleStackPtr stackOf(const std::string& name) {
    const auto outer = around_ && !around_->empty() ? around_->back().name : std::string();
    const bool isInside = !name.empty() && name != outer && (outer.empty() || isWithin(name, outer));
    if (!isInside) return around_;
    auto& stack = stacks_[name];
    if (!stack) {
      auto made = around_ ? std::make_shared<ModuleStack>(*around_) : std::make_shared<ModuleStack>();
      made->push_back({name, {}, {}});
      stack = std::move(made);
    }
    return stack;
  }

  const Owners& owners_;
  const std::set<std::string>& composed_;
  const ModuleStackPtr around_;
  std::vector<std::set<std::string>> sources_;  // of each value: the modules that it is from
  std::map<std::string, ModuleStackPtr> stacks_;
  bool hasWeight_ = false;
};

void nameInner(Graph& graph, const Owners& owners, const std::set<std::string>& composed, ModuleStacks& modules) {
  for (auto& node : graph.nodes) {
    for (auto& inner : node.graphs) {
      Owners inside(static_cast<size_t>(inner->slotCount));
      for (const auto& [outer, slot] : passedValues(node, *inner)) {
        inside[static_cast<size_t>(slot)] = owners[static_cast<size_t>(outer)];
      }
      if (node.control == ControlOperator::InvokeSubgraph) {
        const Names names(*inner, inside, modules);
        if (names.changeAnything()) Renaming(names, modules).rename(*inner);
      }
      Attribution(*inner, inside, composed, node.modules).attribute(*inner);
      nameInner(*inner, inside, composed, modules);
    }
  }
}

}  // namespace

void nameRegions(Graph& graph, const Owners& owners, const std::vector<std::string>& weights, ModuleStacks& modules) {
  nameInner(graph, owners, composedModules(weights), modules);
}

}  // namespace lta::exported
