#include "torch/storage.h"

#include <ATen/EmptyTensor.h>

namespace lta {

size_t bytesOfContiguous(at::IntArrayRef shape, at::ScalarType type) {
  return at::detail::computeStorageNbytesContiguous(shape, c10::elementSize(type));
}

size_t bytesReachedBy(const at::Tensor& strided) {
  return at::detail::computeStorageNbytes(strided.sizes(), strided.strides(), strided.itemsize(),
                                          static_cast<size_t>(strided.storage_offset()));
}

at::Tensor aliasOf(const at::Tensor& tensor) {
  auto* const impl = tensor.unsafeGetTensorImpl();
  return at::Tensor(impl->shallow_copy_and_detach(impl->version_counter(), /*allow_tensor_metadata_change=*/true));
}

}  // namespace lta
