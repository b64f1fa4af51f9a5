// NativeTensor: the native side of a Tensor.
#pragma once

#include <ATen/core/Tensor.h>
#include <napi.h>

#include <memory>

#include "node/object_wrap.h"
#include "node/reported_memory.h"

namespace lta::node {

// Owns a reference to an at::Tensor until it is disposed or collected, and reports its memory to V8.
class TensorWrap : public ObjectWrap<TensorWrap> {
 public:
  static constexpr const char* kName = "NativeTensor";
  static constexpr napi_type_tag kTag = {0x6c696274'6f726368, 0x74656e73'6f720001};
  static Napi::FunctionReference& constructor(Environment& environment) { return environment.tensorClass; }

  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Object wrap(Napi::Env env, at::Tensor tensor);
  // `is` returns true for a NativeTensor; `of` throws ERR_INVALID_ARGUMENT for other values, ERR_DISPOSED for a
  // disposed one.
  static bool is(Napi::Value value) { return find(value) != nullptr; }
  static at::Tensor of(Napi::Value value);

  explicit TensorWrap(const Napi::CallbackInfo& info) : ObjectWrap<TensorWrap>(info) {}
  void Finalize(Napi::BasicEnv env) override;

 private:
  static Napi::Value from(const Napi::CallbackInfo& info);
  static Napi::Value on(const Napi::CallbackInfo& info);
  static Napi::Value zeros(const Napi::CallbackInfo& info);
  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value itemSize(const Napi::CallbackInfo& info);
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value requiresGrad(const Napi::CallbackInfo& info);
  Napi::Value grad(const Napi::CallbackInfo& info);
  Napi::Value isDisposed(const Napi::CallbackInfo& info);
  Napi::Value toTypedArray(const Napi::CallbackInfo& info);
  Napi::Value copyTo(const Napi::CallbackInfo& info);
  Napi::Value data(const Napi::CallbackInfo& info);
  Napi::Value to(const Napi::CallbackInfo& info);
  Napi::Value item(const Napi::CallbackInfo& info);
  Napi::Value setRequiresGrad(const Napi::CallbackInfo& info);
  Napi::Value backward(const Napi::CallbackInfo& info);
  Napi::Value apply(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  const at::Tensor& tensor() const;
  void forget(Napi::BasicEnv env);
  void set(Napi::Env env, at::Tensor tensor);

  at::Tensor tensor_;
  bool disposed_ = false;
  // The reported storage and the report: finalizers may run after the environment's data are gone.
  ReportedMemory::Key reported_ = nullptr;
  std::shared_ptr<ReportedMemory> memory_;
};

}  // namespace lta::node
