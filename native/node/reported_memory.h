#pragma once

#include <c10/core/Storage.h>
#include <napi.h>

#include <cstdint>
#include <unordered_map>

#include "torch/storage.h"

namespace lta::node {

// What V8 is told of the memory that tensors of one environment hold, so that it collects them in time: each storage
// once, however many tensors lie in it. On the event loop's thread only.
class ReportedMemory {
 public:
  using Key = const c10::StorageImpl*;

  // For one more tensor on a storage; the key is for its end.
  Key add(Napi::BasicEnv env, const c10::Storage& storage);
  void remove(Napi::BasicEnv env, Key key);

 private:
  struct Entry {
    // Weak: a tensor may be given another storage, and this one's address isn't to be another's meanwhile.
    WeakStorage storage;
    int64_t bytes;
    int64_t tensors;
  };
  std::unordered_map<Key, Entry> entries_;
};

}  // namespace lta::node
