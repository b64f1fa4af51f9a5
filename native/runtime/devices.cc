#include "runtime/devices.h"

#include <ATen/Context.h>

#include "runtime/error.h"
#include "torch/device_guard.h"

namespace lta {
namespace {

int64_t cudaDevices() { return deviceCount(c10::DeviceType::CUDA); }

}  // namespace

std::vector<std::string> availableDevices() {
  std::vector<std::string> names{"cpu"};
  for (int64_t i = 0; i < cudaDevices(); ++i) names.push_back("cuda:" + std::to_string(i));
  return names;
}

c10::Device parseDevice(const std::string& name) {
  c10::Device device(c10::DeviceType::CPU);
  try {
    device = c10::Device(name);
  } catch (const std::exception&) {
    throw Error("ERR_INVALID_ARGUMENT",
                "Expected 'cpu', 'cuda' or 'cuda:<index>' for device but received '" + name + "'");
  }
  if (device.is_cpu()) return c10::Device(c10::DeviceType::CPU);
  if (device.is_cuda()) {
    const int64_t count = cudaDevices();
    const int64_t index = device.has_index() ? device.index() : 0;
    if (index < count) return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    throw Error("ERR_DEVICE_UNAVAILABLE",
                "Device '" + name + "' is not available: " +
                    (count == 0 ? "this libtorch has no CUDA support or finds no CUDA device"
                                : "this machine has " + std::to_string(count) + " CUDA device(s), counted from 0"));
  }
  throw Error("ERR_DEVICE_UNAVAILABLE", "Device '" + name + "' is not supported: expected 'cpu' or 'cuda:<index>'");
}

}  // namespace lta
