#include "torch/held_memory.h"

#include <utility>

namespace lta {
namespace {

// Memory as libtorch allocated it, with what frees it.
using Memory = std::shared_ptr<c10::DataPtr>;

void letGo(void* context) { delete static_cast<Memory*>(context); }

}  // namespace

std::shared_ptr<void> holdMemory(const c10::Storage& storage) {
  auto& current = storage.unsafeGetStorageImpl()->mutable_data_ptr();
  if (current.get_deleter() == &letGo) return *static_cast<Memory*>(current.get_context());
  // The storage shares its memory from now on. Its address stays what it was.
  void* const address = current.get();
  const auto device = current.device();
  auto memory = std::make_shared<c10::DataPtr>();
  auto held = std::make_unique<Memory>(memory);
  *memory = std::move(current);
  current = c10::DataPtr(address, held.release(), &letGo, device);
  return memory;
}

}  // namespace lta
