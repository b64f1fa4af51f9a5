#include "exported/region_names.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
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
    if (dot == std::string::npos || other == std::string::npos ||
        first.substr(dot) != second.substr(other)) {
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
    return isClear_ && std::any_of(names_.begin(), names_.end(),
                                   [](const auto& each) { return each.first != each.second; });
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

}  // namespace

void nameRegions(Graph& graph, const Owners& owners, ModuleStacks& modules) {
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
      nameRegions(*inner, inside, modules);
    }
  }
}

}  // namespace lta::exported
