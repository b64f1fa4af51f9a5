#include "hooks/hook_registry.h"

namespace lta {

void HookRegistry::add(const std::string& module, HookPtr hook) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto changed = hooks_ ? std::make_shared<HookSet>(*hooks_) : std::make_shared<HookSet>();
  (*changed)[module].push_back(std::move(hook));
  hooks_ = std::move(changed);
}

void HookRegistry::remove(const std::string& module, const HookPtr& hook) {
  hook->remove();
  std::lock_guard<std::mutex> lock(mutex_);
  if (!hooks_ || !hooks_->count(module)) return;
  auto changed = std::make_shared<HookSet>(*hooks_);
  auto& list = (*changed)[module];
  std::erase(list, hook);
  if (list.empty()) changed->erase(module);
  hooks_ = changed->empty() ? nullptr : std::move(changed);
}

std::shared_ptr<const HookSet> HookRegistry::snapshot() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return hooks_;
}

}  // namespace lta
