#pragma once

#include <ATen/core/Tensor.h>

namespace lta {

// The storage behind a tensor; null where it has none.
inline c10::StorageImpl* storageOf(const at::Tensor& tensor) {
  return tensor.defined() && tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

// A reference that knows a storage again without keeping its memory.
inline c10::weak_intrusive_ptr<c10::StorageImpl> weakly(c10::StorageImpl* storage) {
  return c10::weak_intrusive_ptr<c10::StorageImpl>(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(storage));
}

}  // namespace lta
