// Devices through the guards that libtorch's libraries register, so that one binary serves libtorch with and without
// CUDA.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <cstdint>

namespace lta {

// 0 if no library registers this type.
int64_t deviceCount(c10::DeviceType type);

// The current stream of a device, and one from its global pool.
c10::Stream currentStream(c10::Device device);
c10::Stream streamOfPool(c10::Device device);

}  // namespace lta
