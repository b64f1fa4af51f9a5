#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "exported/graph.h"
#include "exported/json.h"

namespace lta::exported {

// The values of a graph that is being read, by name: each name is given once, before it is used.
class ValueNames {
 public:
  int define(std::string_view name) {
    const int slot = count_;
    rename(name, slot);
    ++count_;
    return slot;
  }

  // A second name of a value.
  void rename(std::string_view name, int slot) {
    if (!slots_.emplace(name, slot).second) throw broken("it has two values " + shown(name));
  }

  int slotOf(std::string_view name) const {
    const auto found = slots_.find(std::string(name));
    if (found == slots_.end()) throw broken("a node uses the value " + shown(name) + ", which none gives before it");
    return found->second;
  }

  bool has(std::string_view name) const { return slots_.count(std::string(name)) != 0; }
  int count() const { return count_; }

 private:
  std::unordered_map<std::string, int> slots_;
  int count_ = 0;
};

}  // namespace lta::exported
