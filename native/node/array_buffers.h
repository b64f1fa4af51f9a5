// ArrayBuffers on the memory of tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

#include <memory>
#include <unordered_map>

namespace lta::node {

// One ArrayBuffer per memory block, reused while it lives: V8 accounts the full size of each, and many on one large
// tensor would make it collect continuously. Event loop's thread only.
class ArrayBuffers : public std::enable_shared_from_this<ArrayBuffers> {
 public:
  // An ArrayBuffer on the memory of a dense tensor, which it keeps alive; null if Node forbids external buffers.
  napi_value on(Napi::Env env, const at::Tensor& dense);

 private:
  struct Owner;
  struct Entry {
    napi_ref buffer;  // weak
    Owner* owner;
  };
  void forget(napi_env env, Owner* owner);

  std::unordered_map<void*, Entry> entries_;
};

}  // namespace lta::node
