#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

namespace lta {

// The storage behind a tensor; null where it has none.
inline c10::StorageImpl* storageOf(const at::Tensor& tensor) {
  return tensor.defined() && tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

// A storage that may be gone: tells it from others without keeping its memory.
using WeakStorage = c10::weak_intrusive_ptr<c10::StorageImpl>;

inline WeakStorage weakly(c10::StorageImpl* storage) {
  return WeakStorage(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(storage));
}

// Whether a weak reference is to this storage, and that still exists: the address of a freed one may be another's.
inline bool isStorage(const WeakStorage& weak, const c10::StorageImpl* storage) {
  return weak._unsafe_get_target() == storage && !weak.expired();
}

// Bytes that elements of a type take from the beginning of their storage. Throws c10::Error where that is no number.
size_t bytesOfContiguous(at::IntArrayRef shape, at::ScalarType type);
size_t bytesReachedBy(const at::Tensor& strided);

// An alias of a tensor that is no view of it, as autograd sees it, and that counts its versions with it.
at::Tensor aliasOf(const at::Tensor& tensor);

}  // namespace lta
