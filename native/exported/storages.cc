#include "exported/storages.h"

#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <optional>

#include "archive/limit_exceeded.h"
#include "archive/limits.h"
#include "exported/json.h"

namespace lta::exported {
namespace {

// How many bytes a tensor reaches into its storage; none where that is no number.
std::optional<uint64_t> reach(const TensorMeta& meta) {
  uint64_t last = static_cast<uint64_t>(meta.offset);
  bool empty = false, overflows = false;
  uint64_t elements = 1;
  for (size_t d = 0; d < meta.sizes.size(); ++d) {
    const auto size = static_cast<uint64_t>(meta.sizes[d]);
    empty = empty || size == 0;
    uint64_t along = 0;
    overflows =
        overflows || __builtin_mul_overflow(size == 0 ? 0 : size - 1, static_cast<uint64_t>(meta.strides[d]), &along) ||
        __builtin_add_overflow(last, along, &last) || __builtin_mul_overflow(elements, size == 0 ? 1 : size, &elements);
  }
  uint64_t bytes = 0;
  overflows = overflows || last == UINT64_MAX ||
              __builtin_mul_overflow(empty ? 0 : last + 1, c10::elementSize(meta.dtype), &bytes) ||
              elements > static_cast<uint64_t>(INT64_MAX);
  return overflows ? std::nullopt : std::optional(bytes);
}

// Tensors of several types in one storage share its memory.
at::Tensor viewOf(const at::Tensor& whole, const Bytes& bytes, int64_t count, const at::TensorOptions& options) {
  return at::from_blob(bytes.data, {count}, [whole](void*) {}, options);
}

void checkExpanded(const TensorMeta& meta, const std::string& name) {
  uint64_t elements = 1;
  for (const int64_t size : meta.sizes) elements *= static_cast<uint64_t>(size);  // `reach` has looked
  const uint64_t bytesEach = c10::elementSize(meta.dtype);
  if (elements > archive::kMaxExpandedBytes / bytesEach && elements > *reach(meta) / bytesEach) {
    throw archive::LimitExceeded("the tensor " + shown(name) + " has more elements than its record");
  }
}

void makeTruthOne(const Bytes& bytes) {
  for (uint64_t i = 0; i < bytes.size; ++i) {
    if (bytes.data[i] != 0 && bytes.data[i] != 1) bytes.data[i] = 1;
  }
}

}  // namespace

at::Tensor Storages::tensor(const std::string& record, const TensorMeta& meta, const std::string& name) {
  const auto needed = reach(meta);
  auto found = storages_.find(record);
  if (found == storages_.end()) found = storages_.emplace(record, bytesOf_(record)).first;
  const auto& bytes = found->second;
  if (!needed || *needed > bytes.size) {
    throw broken("the tensor " + shown(name) + " reaches beyond its record " + shown(record) + " of " +
                 std::to_string(bytes.size) + " bytes");
  }
  checkExpanded(meta, name);
  // Kernels count on truth being 1.
  if (meta.dtype == at::kBool) makeTruthOne(bytes);
  auto& whole = wholes_[record];
  const auto options = at::TensorOptions().dtype(meta.dtype);
  const auto count = static_cast<int64_t>(bytes.size / c10::elementSize(meta.dtype));
  if (count == 0 || *needed == 0)
    return at::empty(meta.sizes, options).set_requires_grad(meta.requiresGrad && at::isFloatingType(meta.dtype));
  if (!whole.defined()) whole = at::from_blob(bytes.data, {count}, [owner = bytes.owner](void*) {}, options);
  auto all = whole.scalar_type() == meta.dtype ? whole : viewOf(whole, bytes, count, options);
  // Not as a view: it would ask its base whether it requires gradients, and at::matmul picks its kernel by that.
  auto tensor = all.as_strided(meta.sizes, meta.strides, meta.offset).detach();
  if (!meta.requiresGrad) return tensor;
  if (!at::isFloatingType(meta.dtype) && !at::isComplexType(meta.dtype)) {
    throw broken("the tensor " + shown(name) + " requires gradients but isn't floating point");
  }
  return tensor.set_requires_grad(true);
}

}  // namespace lta::exported
