// Storages behind tensors: identity, weak references, sizes, aliases.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

namespace lta {

// Null for a tensor without storage.
inline c10::StorageImpl* storageOf(const at::Tensor& tensor) {
  return tensor.defined() && tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

// A weak reference identifies a storage without keeping its memory.
using WeakStorage = c10::weak_intrusive_ptr<c10::StorageImpl>;

inline WeakStorage weakly(c10::StorageImpl* storage) {
  return WeakStorage(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(storage));
}

// Whether a weak reference is to this live storage: the address of a freed one may have been reused.
inline bool isStorage(const WeakStorage& weak, const c10::StorageImpl* storage) {
  return weak._unsafe_get_target() == storage && !weak.expired();
}

// Bytes from the beginning of the storage to the last element. Throw c10::Error on overflow.
size_t bytesOfContiguous(at::IntArrayRef shape, at::ScalarType type);
size_t bytesReachedBy(const at::Tensor& strided);

// An alias that isn't a view to autograd and shares the version counter.
at::Tensor aliasOf(const at::Tensor& tensor);

}  // namespace lta
