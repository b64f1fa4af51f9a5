#include "weights/cuda/weights_by_kernel.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "torch/device_guard.h"
#include "weights/cuda/kernel_library.h"
#include "weights/cuda/launch.h"

namespace lta {
namespace {

bool isEnabled() {
  const char* const given = std::getenv("LIBTORCH_ATTENTION_CUDA_KERNEL");
  return given != nullptr && std::string_view(given) == "1";
}

// What a device's kernel computes of a sample of every path through it (rows and keys beyond a tile, a mask) is
// compared with what operators compute. Tensor cores that were used wrongly would be off by far more.
constexpr double kAlike = 1e-4;

std::string differenceOnSample(CompiledKernel& kernel, const KernelVariant& variant, at::ScalarType type,
                               at::Device device) {
  const auto options = at::TensorOptions().device(device);
  SdpaArguments sample;
  sample.query = at::randn({1, 2, 70, variant.embed}, options).to(type);
  sample.key = at::randn({1, 2, 140, variant.embed}, options).to(type);
  sample.mask = at::rand({1, 1, 70, 140}, options).gt(0.2);
  const auto launch = launchOf(sample, {});
  if (!launch) return "no launch of the sample";
  if (auto refusal = kernel.run(*launch, currentStream(device)); !refusal.empty()) return refusal;
  const auto scores = at::matmul(sample.query.to(at::kFloat), sample.key.to(at::kFloat).transpose(-1, -2))
                          .mul(launch->arguments.scale)
                          .masked_fill(sample.mask->logical_not(), -INFINITY);
  const auto difference = scores.softmax(-1).nan_to_num(0.0).sub(launch->weights).abs().max().item<double>();
  if (difference <= kAlike) return {};
  return "weights of a sample are off by " + std::to_string(difference);
}

// The kernels that were tried, and why some aren't used.
class Kernels {
 public:
  // Null where the kernel doesn't serve.
  CompiledKernel* find(const KernelVariant& variant, at::ScalarType type, at::Device device) {
    const std::lock_guard lock(mutex_);
    const auto [entry, isNew] = kernels_.try_emplace({device.index(), variant});
    if (isNew) {
      auto kernel = CompiledKernel::compile(variant, device.index());
      auto refusal = kernel ? differenceOnSample(*kernel, variant, type, device) : kernel.refusal;
      if (refusal.empty()) {
        entry->second = std::move(kernel.kernel);
      } else {
        refusal_ = std::move(refusal);
      }
    }
    return entry->second.get();
  }

  void refuse(const KernelVariant& variant, at::Device device, std::string refusal) {
    const std::lock_guard lock(mutex_);
    // Other threads may be about to launch it: it stays, and is found no more.
    refused_.push_back(std::move(kernels_[{device.index(), variant}]));
    refusal_ = std::move(refusal);
  }

  std::string refusal() {
    const std::lock_guard lock(mutex_);
    return refusal_;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<c10::DeviceIndex, KernelVariant>, std::unique_ptr<CompiledKernel>> kernels_;
  std::vector<std::unique_ptr<CompiledKernel>> refused_;
  std::string refusal_;
};

Kernels& kernels() {
  // Never destroyed: the driver may be gone by then.
  static auto* const all = new Kernels;
  return *all;
}

}  // namespace

at::Tensor weightsByKernel(const SdpaArguments& call, const Rows& rows) {
  const auto device = call.query.device();
  if (!device.is_cuda() || !isEnabled()) return {};
  const auto variant = variantOf(call);
  if (!variant) return {};
  const c10::DeviceGuard guard(device);
  auto* const kernel = kernels().find(*variant, call.query.scalar_type(), device);
  if (kernel == nullptr) return {};
  const auto launch = launchOf(call, rows);
  if (!launch) return {};
  if (auto refusal = kernel->run(*launch, currentStream(device)); !refusal.empty()) {
    kernels().refuse(*variant, device, std::move(refusal));
    return {};
  }
  return launch->weights;
}

std::string kernelRefusal() { return kernels().refusal(); }

}  // namespace lta
