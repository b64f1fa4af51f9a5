// Names of devices. Never includes CUDA headers: one binary serves libtorch with and without CUDA.
#pragma once

#include <c10/core/Device.h>

#include <string>
#include <vector>

namespace lta {

// The devices available to this libtorch now, in PyTorch's notation: "cpu", "cuda:0", …
std::vector<std::string> availableDevices();

// Throws ERR_INVALID_ARGUMENT for a malformed name, ERR_DEVICE_UNAVAILABLE if this libtorch or this machine lacks the
// device.
c10::Device parseDevice(const std::string& name);

}  // namespace lta
