#include "node/array_buffers.h"

#include "torch/held_memory.h"

namespace lta::node {

// Owned by an ArrayBuffer.
struct ArrayBuffers::Owner {
  std::shared_ptr<ArrayBuffers> buffers;
  std::shared_ptr<void> memory;
  void* address;
};

napi_value ArrayBuffers::on(Napi::Env env, const at::Tensor& dense) {
  auto memory = holdMemory(dense.storage());
  void* const address = dense.data_ptr();
  const size_t bytes = dense.nbytes();
  if (const auto found = entries_.find(address); found != entries_.end()) {
    napi_value buffer = nullptr;
    size_t length = 0;
    // A detached buffer has length 0.
    if (found->second.owner->memory == memory &&
        napi_get_reference_value(env, found->second.buffer, &buffer) == napi_ok && buffer &&
        napi_get_arraybuffer_info(env, buffer, nullptr, &length) == napi_ok && length == bytes) {
      return buffer;
    }
    forget(env, found->second.owner);
  }
  auto owner = std::make_unique<Owner>(Owner{shared_from_this(), std::move(memory), address});
  const auto release = [](napi_env env, void*, void* hint) {
    const std::unique_ptr<Owner> owner(static_cast<Owner*>(hint));
    owner->buffers->forget(env, owner.get());
  };
  napi_value buffer = nullptr;
  if (napi_create_external_arraybuffer(env, address, bytes, release, owner.get(), &buffer) != napi_ok) return nullptr;
  auto* const kept = owner.release();
  napi_ref reference = nullptr;
  if (napi_create_reference(env, buffer, 0, &reference) == napi_ok) entries_[address] = Entry{reference, kept};
  return buffer;
}

void ArrayBuffers::forget(napi_env env, Owner* owner) {
  const auto found = entries_.find(owner->address);
  if (found == entries_.end() || found->second.owner != owner) return;
  napi_delete_reference(env, found->second.buffer);
  entries_.erase(found);
}

}  // namespace lta::node
