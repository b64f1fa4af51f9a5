#include "torch/held_memory.h"

#include <utility>

namespace lta {
namespace {

// Memory as libtorch allocated it, with its deleter.
using Memory = std::shared_ptr<c10::DataPtr>;

void release(void* context) { delete static_cast<Memory*>(context); }

}  // namespace

std::shared_ptr<void> holdMemory(const c10::Storage& storage) {
  auto& current = storage.unsafeGetStorageImpl()->mutable_data_ptr();
  if (current.get_deleter() == &release) return *static_cast<Memory*>(current.get_context());
  // From now on the storage shares ownership of its memory, at the same address.
  void* const address = current.get();
  const auto device = current.device();
  auto memory = std::make_shared<c10::DataPtr>();
  auto held = std::make_unique<Memory>(memory);
  *memory = std::move(current);
  current = c10::DataPtr(address, held.release(), &release, device);
  return memory;
}

}  // namespace lta
