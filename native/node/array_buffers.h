#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

#include <memory>
#include <unordered_map>

namespace lta::node {

// The ArrayBuffers of one environment that lie on memory of tensors. The same memory has one as long as that lives: V8
// counts what each of them holds, and would collect all the time for the sake of many on one large tensor. On the event
// loop's thread only.
class ArrayBuffers : public std::enable_shared_from_this<ArrayBuffers> {
 public:
  // An ArrayBuffer on the memory of a dense tensor, which it keeps; none where Node forbids that.
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
