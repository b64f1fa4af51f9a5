// Reports the memory of tensors to V8.
#pragma once

#include <c10/core/Storage.h>
#include <napi.h>

#include <cstdint>
#include <unordered_map>

#include "torch/storage.h"

namespace lta::node {

// Each storage is reported once, however many tensors share it, so that V8 collects in time. Event loop's thread only.
class ReportedMemory {
 public:
  using Key = const c10::StorageImpl*;

  // Adds a tensor on a storage; pass the key to `remove`.
  Key add(Napi::BasicEnv env, const c10::Storage& storage);
  void remove(Napi::BasicEnv env, Key key);

 private:
  struct Entry {
    // Weak: `set_data` may replace a tensor's storage, and the address of a live weak reference isn't reused.
    WeakStorage storage;
    int64_t bytes;
    int64_t tensors;
  };
  std::unordered_map<Key, Entry> entries_;
};

}  // namespace lta::node
