#include "node/tensor_wrap.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstring>
#include <unordered_map>

#include "node/arguments.h"
#include "node/async.h"
#include "node/cancellation_wrap.h"
#include "node/dtypes.h"
#include "node/environment.h"
#include "node/errors.h"
#include "node/shared_memory.h"
#include "node/values.h"
#include "runtime/device_copy.h"
#include "runtime/devices.h"
#include "torch/storage.h"

namespace lta::node {

namespace {

std::vector<int64_t> sizesOf(Napi::Value value) {
  auto sizes = integersArgument(value, "shape");
  for (const auto size : sizes) {
    if (size < 0) {
      throw Error("ERR_INVALID_ARGUMENT",
                  "Expected sizes of at least 0 for shape but received " + std::to_string(size));
    }
  }
  return sizes;
}

// The memory of a typed array, which must have the size of this shape and type. No JavaScript may run between this and
// its use.
const char* memoryOf(Napi::Value value, const std::vector<int64_t>& shape, at::ScalarType type) {
  const auto bytes = bytesOf(value);
  // Throws if the product of the sizes overflows.
  const auto expected = bytesOfContiguous(shape, type);
  if (expected == bytes.size()) return bytes.data();
  throw Error("ERR_INVALID_ARGUMENT",
              "Expected " + std::to_string(expected) + " bytes of data but received " + std::to_string(bytes.size()));
}

// However the tensor was made, memory beyond its storage must not be read.
void checkStorage(const at::Tensor& tensor) {
  if (tensor.layout() != at::kStrided || !tensor.has_storage() || tensor.numel() == 0) return;
  const auto needed = bytesReachedBy(tensor);
  if (needed <= tensor.storage().nbytes()) return;
  throw Error("ERR_INVALID_ARGUMENT", "Expected a tensor whose storage has at least " + std::to_string(needed) +
                                          " bytes but received one of " + std::to_string(tensor.storage().nbytes()));
}

// A dense, contiguous CPU tensor with these elements; `tensor` itself if it is one.
at::Tensor readable(const at::Tensor& tensor) {
  if (!findDType(tensor.scalar_type())) {
    const char* const remedy = tensor.is_quantized() ? "dequantize() gives the numbers that its elements stand for"
                                                     : "convert it first with to({ dtype })";
    throw Error("ERR_INVALID_ARGUMENT",
                "A tensor of type " + nameOf(tensor.scalar_type()) + " has no typed array: " + remedy);
  }
  c10::NoGradGuard noGrad;
  auto dense = tensor.detach();
  checkStorage(dense);
  if (dense.layout() != at::kStrided) dense = dense.to_dense();
  return toCpu(dense.resolve_conj().resolve_neg().contiguous());
}

// A typed array on the tensor's memory, which stays alive as long as the array, whatever happens to the tensor; a copy
// if Node forbids external buffers.
Napi::Value typedArrayOf(Napi::Env env, const at::Tensor& dense) {
  const auto& dtype = *findDType(dense.scalar_type());
  const auto bytes = dense.nbytes();
  napi_value buffer = bytes > 0 ? environment(env).arrayBuffers->on(env, dense) : nullptr;
  if (!buffer) {
    void* data = nullptr;
    if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok) throw Napi::Error::New(env);
    if (bytes > 0) std::memcpy(data, dense.data_ptr(), bytes);
  }
  napi_value array = nullptr;
  if (napi_create_typedarray(env, dtype.array, bytes / elementBytes(dtype.array), buffer, 0, &array) != napi_ok) {
    throw Napi::Error::New(env);
  }
  return Napi::Value(env, array);
}

// Resolves a dimension counted from either end.
int64_t dimension(const at::Tensor& tensor, int64_t dim) { return at::maybe_wrap_dim(dim, tensor.dim()); }

using Operation = at::Tensor (*)(const at::Tensor&, const Napi::CallbackInfo&);

int64_t integer(const Napi::CallbackInfo& info, size_t index) { return integerArgument(info[index], "an argument"); }

std::optional<int64_t> optionalDim(const at::Tensor& tensor, const Napi::CallbackInfo& info) {
  if (info.Length() < 2 || info[1].IsUndefined()) return std::nullopt;
  return dimension(tensor, integer(info, 1));
}

// As in PyTorch, a mean of integers is an error.
const std::unordered_map<std::string, Operation>& operations() {
  static const auto* table = new std::unordered_map<std::string, Operation>{
      {"select",
       [](const at::Tensor& t, const Napi::CallbackInfo& i) { return t.select(integer(i, 1), integer(i, 2)); }},
      {"narrow", [](const at::Tensor& t,
                    const Napi::CallbackInfo& i) { return t.narrow(integer(i, 1), integer(i, 2), integer(i, 3)); }},
      {"reshape",
       [](const at::Tensor& t, const Napi::CallbackInfo& i) { return t.reshape(integersArgument(i[1], "shape")); }},
      {"transpose",
       [](const at::Tensor& t, const Napi::CallbackInfo& i) { return t.transpose(integer(i, 1), integer(i, 2)); }},
      {"sum",
       [](const at::Tensor& t, const Napi::CallbackInfo& i) {
         const auto dim = optionalDim(t, i);
         return dim ? t.sum(*dim) : t.sum();
       }},
      {"mean",
       [](const at::Tensor& t, const Napi::CallbackInfo& i) {
         const auto dim = optionalDim(t, i);
         return dim ? t.mean(*dim) : t.mean();
       }},
      {"softmax", [](const at::Tensor& t, const Napi::CallbackInfo& i) { return t.softmax(integer(i, 1)); }},
      {"argmax", [](const at::Tensor& t, const Napi::CallbackInfo& i) { return t.argmax(optionalDim(t, i)); }},
      {"dequantize", [](const at::Tensor& t, const Napi::CallbackInfo&) { return t.dequantize(); }},
      {"add",
       [](const at::Tensor& t, const Napi::CallbackInfo& i) {
         return i[1].IsNumber() ? t.add(i[1].As<Napi::Number>().DoubleValue()) : t.add(TensorWrap::of(i[1]));
       }},
      {"mul",
       [](const at::Tensor& t, const Napi::CallbackInfo& i) {
         return i[1].IsNumber() ? t.mul(i[1].As<Napi::Number>().DoubleValue()) : t.mul(TensorWrap::of(i[1]));
       }},
  };
  return *table;
}

}  // namespace

void TensorWrap::define(Napi::Env env, Napi::Object exports) {
  defineClass(env, exports,
              {
                  StaticMethod("from", &TensorWrap::from),
                  StaticMethod("on", &TensorWrap::on),
                  StaticMethod("zeros", &TensorWrap::zeros),
                  InstanceMethod("shape", &TensorWrap::shape),
                  InstanceMethod("dtype", &TensorWrap::dtype),
                  InstanceMethod("itemSize", &TensorWrap::itemSize),
                  InstanceMethod("device", &TensorWrap::device),
                  InstanceMethod("requiresGrad", &TensorWrap::requiresGrad),
                  InstanceMethod("setRequiresGrad", &TensorWrap::setRequiresGrad),
                  InstanceMethod("grad", &TensorWrap::grad),
                  InstanceMethod("isDisposed", &TensorWrap::isDisposed),
                  InstanceMethod("toTypedArray", &TensorWrap::toTypedArray),
                  InstanceMethod("copyTo", &TensorWrap::copyTo),
                  InstanceMethod("data", &TensorWrap::data),
                  InstanceMethod("to", &TensorWrap::to),
                  InstanceMethod("item", &TensorWrap::item),
                  InstanceMethod("backward", &TensorWrap::backward),
                  InstanceMethod("apply", &TensorWrap::apply),
                  InstanceMethod("dispose", &TensorWrap::dispose),
              });
}

Napi::Object TensorWrap::wrap(Napi::Env env, at::Tensor tensor) {
  auto object = make(env);
  Unwrap(object)->set(env, std::move(tensor));
  return object;
}

at::Tensor TensorWrap::of(Napi::Value value) { return get(value, "a tensor").tensor(); }

void TensorWrap::forget(Napi::BasicEnv env) {
  if (reported_) memory_->remove(env, reported_);
  reported_ = nullptr;
}

void TensorWrap::set(Napi::Env env, at::Tensor tensor) {
  tensor_ = std::move(tensor);
  if (!tensor_.has_storage()) return;
  memory_ = environment(env).reportedMemory;
  reported_ = memory_->add(env, tensor_.storage());
}

void TensorWrap::Finalize(Napi::BasicEnv env) { forget(env); }

const at::Tensor& TensorWrap::tensor() const {
  if (disposed_) throw Error("ERR_DISPOSED", "Expected a live Tensor but received one that was disposed");
  return tensor_;
}

// (typed array of the type's bits, shape, dtype, device) → NativeTensor. The elements are copied.
Napi::Value TensorWrap::from(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto shape = sizesOf(info[1]);
    const auto& dtype = dtypeArgument(info[2]);
    const auto device = parseDevice(stringArgument(info[3], "device"));
    const auto* bytes = memoryOf(info[0], shape, dtype.type);
    auto tensor = at::empty(shape, at::TensorOptions().dtype(dtype.type));
    if (tensor.nbytes() > 0) std::memcpy(tensor.data_ptr(), bytes, tensor.nbytes());
    return wrap(info.Env(), tensor.to(device));
  });
}

// (typed array of the type's bits, shape, dtype) → NativeTensor on the array's memory (see tensorOn).
Napi::Value TensorWrap::on(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto shape = sizesOf(info[1]);
    const auto& dtype = dtypeArgument(info[2]);
    memoryOf(info[0], shape, dtype.type);
    return wrap(info.Env(), tensorOn(info[0].As<Napi::TypedArray>(), shape, dtype.type));
  });
}

// (shape, dtype, device) → NativeTensor
Napi::Value TensorWrap::zeros(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto& dtype = dtypeArgument(info[1]);
    const auto device = parseDevice(stringArgument(info[2], "device"));
    return wrap(info.Env(), at::zeros(sizesOf(info[0]), at::TensorOptions().dtype(dtype.type).device(device)));
  });
}

Napi::Value TensorWrap::shape(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto sizes = tensor().sizes();
    auto list = Napi::Array::New(info.Env(), sizes.size());
    for (uint32_t i = 0; i < sizes.size(); ++i)
      list.Set(i, Napi::Number::New(info.Env(), static_cast<double>(sizes[i])));
    return list;
  });
}

Napi::Value TensorWrap::dtype(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), nameOf(tensor().scalar_type())); });
}

Napi::Value TensorWrap::itemSize(const Napi::CallbackInfo& info) {
  return guarded(info.Env(),
                 [&] { return Napi::Number::New(info.Env(), static_cast<double>(tensor().dtype().itemsize())); });
}

Napi::Value TensorWrap::device(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), tensor().device().str()); });
}

Napi::Value TensorWrap::requiresGrad(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::Boolean::New(info.Env(), tensor().requires_grad()); });
}

Napi::Value TensorWrap::setRequiresGrad(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    tensor().requires_grad_(booleanArgument(info[0], "requiresGrad"));
    return info.Env().Undefined();
  });
}

Napi::Value TensorWrap::grad(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    // libtorch warns when asked for the gradient of a non-leaf tensor, which has none.
    const auto gradient = tensor().is_leaf() || tensor().retains_grad() ? tensor().grad() : at::Tensor();
    if (!gradient.defined()) return info.Env().Null();
    return wrap(info.Env(), gradient);
  });
}

Napi::Value TensorWrap::isDisposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), disposed_); }

Napi::Value TensorWrap::toTypedArray(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return typedArrayOf(info.Env(), readable(tensor())); });
}

Napi::Value TensorWrap::copyTo(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto dense = readable(tensor());
    auto* const memory = const_cast<char*>(memoryOf(info[0], {dense.numel()}, at::kFloat));
    if (dense.numel() > 0) at::from_blob(memory, dense.sizes(), at::kFloat).copy_(dense);
    return info.Env().Undefined();
  });
}

Napi::Value TensorWrap::data(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return runAsync<at::Tensor>(
        info.Env(), [tensor = tensor()] { return readable(tensor); },
        [](Napi::Env env, const at::Tensor& dense) { return typedArrayOf(env, dense); }, {"ERR_MODEL_RUN"});
  });
}

Napi::Value TensorWrap::to(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto result = tensor();
    if (!info[0].IsUndefined()) result = result.to(parseDevice(stringArgument(info[0], "device")));
    if (!info[1].IsUndefined()) {
      const auto type = dtypeArgument(info[1]).type;
      // What a conversion does as well, but with a warning on stderr. Truth looks at both parts.
      if (result.is_complex() && !at::isComplexType(type) && type != at::kBool) result = at::real(result);
      result = result.to(type);
    }
    return wrap(info.Env(), result);
  });
}

Napi::Value TensorWrap::item(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto env = info.Env();
    if (tensor().numel() != 1) {
      throw Error("ERR_INVALID_ARGUMENT", "Expected a Tensor with one element for item() but received one with " +
                                              std::to_string(tensor().numel()));
    }
    const auto type = tensor().scalar_type();
    if (tensor().is_quantized()) {
      throw Error("ERR_INVALID_ARGUMENT",
                  "An element of type " + nameOf(type) + " has no number: dequantize() gives what it stands for");
    }
    const auto value = tensor().item();
    if (value.isBoolean()) return Napi::Boolean::New(env, value.toBool());
    if (type == at::kLong) return Napi::BigInt::New(env, value.toLong());
    if (type == at::kUInt64) return Napi::BigInt::New(env, value.toUInt64());
    if (value.isIntegral(false)) return Napi::Number::New(env, static_cast<double>(value.toLong()));
    if (value.isFloatingPoint()) return Napi::Number::New(env, value.toDouble());
    if (value.isComplex()) {
      const auto number = value.toComplexDouble();
      auto parts = Napi::Array::New(env, 2);
      parts.Set(0u, Napi::Number::New(env, number.real()));
      parts.Set(1u, Napi::Number::New(env, number.imag()));
      return parts;
    }
    throw Error("ERR_INVALID_ARGUMENT", "An element of type " + nameOf(type) + " has no number");
  });
}

// (gradient or undefined, cancellation or undefined) → Promise<undefined>
Napi::Value TensorWrap::backward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto gradient = info[0].IsUndefined() ? at::Tensor() : of(info[0]);
    return runAsync(
        info.Env(), [tensor = tensor(), gradient] { tensor.backward(gradient); },
        [](Napi::Env env) { return env.Undefined(); },
        {.code = "ERR_INVALID_ARGUMENT", .cancellation = CancellationWrap::of(info[1])});
  });
}

// (name of an operation, its arguments …) → NativeTensor.
Napi::Value TensorWrap::apply(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto found = operations().find(stringArgument(info[0], "operation"));
    TORCH_CHECK(found != operations().end(), "unknown operation");
    return wrap(info.Env(), found->second(tensor(), info));
  });
}

void TensorWrap::dispose(const Napi::CallbackInfo& info) {
  tensor_ = at::Tensor();
  disposed_ = true;
  forget(info.Env());
}

}  // namespace lta::node
