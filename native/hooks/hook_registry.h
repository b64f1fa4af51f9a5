// The hooks of a model by module. Copy-on-write: runs share snapshots.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "hooks/hook.h"

namespace lta {

// By module name, in order of registration. Immutable: a run keeps its snapshot and doesn't see hooks registered later.
using HookSet = std::unordered_map<std::string, std::vector<HookPtr>>;

class HookRegistry {
 public:
  void add(const std::string& module, HookPtr hook);
  void remove(const std::string& module, const HookPtr& hook);
  // Null without hooks.
  std::shared_ptr<const HookSet> snapshot() const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const HookSet> hooks_;
};

}  // namespace lta
