#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <cstdint>

namespace lta {

// Devices by way of what libtorch's libraries register for their kinds, so that one binary serves libtorch with and
// without CUDA.

// How many devices of a kind there are; none where no library registers that kind.
int64_t deviceCount(c10::DeviceType type);

// The current stream of a device, and one of the pool that all share.
c10::Stream currentStream(c10::Device device);
c10::Stream streamOfPool(c10::Device device);

}  // namespace lta
