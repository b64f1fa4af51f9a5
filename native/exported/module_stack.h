#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/options.h"

namespace lta::exported {

// One module on the way to a node's call.
struct ModuleFrame {
  std::string name;      // dotted; '' for the model itself
  std::string type;      // class name without its package
  std::string identity;  // tells several calls of one module apart
};

// The modules that a node's call came from, outermost first.
using ModuleStack = std::vector<ModuleFrame>;
using ModuleStackPtr = std::shared_ptr<const ModuleStack>;

// Reads what nodes say of the modules that they came from; nodes of one call share a stack. Parts of the exporter's own
// aren't modules of the model.
class ModuleStacks {
 public:
  ModuleStackPtr read(std::string_view text);

  // All modules that were met, by name, with their types.
  const std::unordered_map<std::string, std::string>& types() const { return types_; }
  // Meets another one.
  void add(const ModuleFrame& frame) { types_.emplace(frame.name, frame.type); }
  // Whether two modules may be of one type.
  bool mayBeAlike(const std::string& first, const std::string& second) const;

 private:
  std::unordered_map<std::string, ModuleStackPtr> stacks_;
  std::unordered_map<std::string, std::string> types_;
};

}  // namespace lta::exported
