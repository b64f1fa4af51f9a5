#include "capture/retained_tensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <utility>

#include "runtime/error.h"
#include "torch/own_computation.h"
#include "torch/storage.h"

namespace lta {
namespace {

uint32_t versionOf(const at::Tensor& tensor) {
  return tensor.is_inference() ? 0 : static_cast<uint32_t>(tensor._version());
}

// The addresses that a tensor's elements lie between; those of its whole storage where strides don't tell.
std::pair<uintptr_t, uintptr_t> addressesOf(const at::Tensor& tensor) {
  const auto* storage = storageOf(tensor);
  const auto begin = reinterpret_cast<uintptr_t>(storage->data());
  if (tensor.is_nested() || tensor.layout() != at::kStrided) return {begin, begin + storage->nbytes()};
  if (tensor.numel() == 0) return {begin, begin};
  const auto size = static_cast<uintptr_t>(tensor.element_size());
  uintptr_t last = 0;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    last += static_cast<uintptr_t>((tensor.size(dim) - 1) * tensor.stride(dim));
  }
  const auto first = begin + static_cast<uintptr_t>(tensor.storage_offset()) * size;
  return {first, first + (last + 1) * size};
}

// Whether a write into one can change the other. Tensors of two storages may lie in one memory: inputs can.
bool overlap(const at::Tensor& a, const at::Tensor& b) {
  if (!storageOf(a) || !storageOf(b)) return !storageOf(a) && !storageOf(b);
  if (a.device() != b.device()) return false;
  const auto [beginA, endA] = addressesOf(a);
  const auto [beginB, endB] = addressesOf(b);
  return beginA < endB && beginB < endA;
}

}  // namespace

at::Tensor cloneOf(const at::Tensor& tensor) {
  const OwnComputation own;
  if (tensor.is_nested() || tensor.layout() != at::kStrided) return tensor.detach().clone();
  auto single = tensor.detach();
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    if (tensor.stride(dim) == 0 && tensor.size(dim) > 1) single = single.narrow(dim, 0, 1);
  }
  return single.clone().expand(tensor.sizes());
}

RetainedTensor::RetainedTensor(at::Tensor tensor) : tensor_(std::move(tensor)), version_(versionOf(tensor_)) {}

const at::Tensor& RetainedTensor::get() const {
  if (!copied_ && versionOf(tensor_) != version_) {
    throw Error("ERR_MODEL_RUN",
                "Expected operators to declare what they write to, but one changed a tensor that attention was "
                "computed from without saying so in its schema: its weights can't be told any more. Mark the arguments "
                "that a custom operator writes to, as in `Tensor(a!) self`");
  }
  return tensor_;
}

void RetainedTensor::copy() {
  tensor_ = cloneOf(get());
  copied_ = true;
}

std::shared_ptr<RetainedTensor> RetainedTensors::retain(const at::Tensor& tensor) {
  at::Tensor alias;
  {
    // An alias: operators such as set_data, transpose_ or resize_ change what the model's own tensor is.
    const OwnComputation own;
    alias = tensor.detach();
  }
  const std::shared_ptr<RetainedTensor> retained(new RetainedTensor(std::move(alias)));
  if (copyAtOnce_) {
    retained->copy();
    return retained;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(tensors_, [](const auto& other) { return other.expired(); });
  tensors_.push_back(retained);
  count_ = tensors_.size();
  return retained;
}

void RetainedTensors::beforeWrite(const at::Tensor& tensor) {
  if (empty() || !tensor.defined()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(tensors_, [&](const auto& weak) {
    const auto retained = weak.lock();
    if (!retained || !overlap(retained->tensor_, tensor)) return !retained;
    const std::unique_lock<std::shared_mutex> nobodyReads(reading_);
    retained->copy();
    return true;
  });
  count_ = tensors_.size();
}

}  // namespace lta
