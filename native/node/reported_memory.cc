#include "node/reported_memory.h"

namespace lta::node {
namespace {

void adjust(Napi::BasicEnv env, int64_t change) {
  int64_t ignored;
  if (change != 0) napi_adjust_external_memory(env, change, &ignored);
}

}  // namespace

ReportedMemory::Key ReportedMemory::add(Napi::BasicEnv env, const c10::Storage& storage) {
  const Key key = storage.unsafeGetStorageImpl();
  const auto found = entries_.find(key);
  if (found != entries_.end()) {
    ++found->second.tensors;
    return key;
  }
  const auto bytes = static_cast<int64_t>(storage.nbytes());
  entries_.emplace(key, Entry{storage.getWeakStorageImpl(), bytes, 1});
  adjust(env, bytes);
  return key;
}

void ReportedMemory::remove(Napi::BasicEnv env, Key key) {
  const auto found = entries_.find(key);
  if (found == entries_.end() || --found->second.tensors > 0) return;
  adjust(env, -found->second.bytes);
  entries_.erase(found);
}

}  // namespace lta::node
