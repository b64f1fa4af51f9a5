#pragma once

#include <c10/core/Device.h>

#include <string>
#include <vector>

namespace lta {

// The devices that this libtorch can use now, as PyTorch writes them: "cpu", "cuda:0", …
std::vector<std::string> availableDevices();

// The device that `name` means. Throws ERR_INVALID_ARGUMENT where it names none, ERR_DEVICE_UNAVAILABLE where this
// libtorch or this machine doesn't have it.
c10::Device parseDevice(const std::string& name);

}  // namespace lta
