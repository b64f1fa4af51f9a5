#include "runtime/scratch.h"

#include <mutex>
#include <unordered_set>

namespace lta {
namespace {

struct Registry {
  std::mutex mutex;
  std::unordered_set<ScratchBase*> all;
};

// Leaked: threads may outlive static objects.
Registry& registry() {
  static auto* one = new Registry();
  return *one;
}

}  // namespace

ScratchBase::ScratchBase() {
  const std::lock_guard<std::mutex> lock(registry().mutex);
  registry().all.insert(this);
}

ScratchBase::~ScratchBase() {
  const std::lock_guard<std::mutex> lock(registry().mutex);
  registry().all.erase(this);
}

void ScratchBase::releaseAll() {
  const std::lock_guard<std::mutex> lock(registry().mutex);
  for (auto* scratch : registry().all) {
    scratch->release_.store(true, std::memory_order_relaxed);
    if (scratch->begin()) scratch->end();
  }
}

}  // namespace lta
