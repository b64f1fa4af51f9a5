#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "hooks/hook.h"

namespace lta {

// The hooks of a model by the module they sit on, in the order they were registered. Immutable: a run keeps the one it
// began with and doesn't see hooks registered later.
using HookSet = std::unordered_map<std::string, std::vector<HookPtr>>;

class HookRegistry {
 public:
  void add(const std::string& module, HookPtr hook);
  void remove(const std::string& module, const HookPtr& hook);
  // None where there are no hooks.
  std::shared_ptr<const HookSet> snapshot() const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const HookSet> hooks_;
};

}  // namespace lta
