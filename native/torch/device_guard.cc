#include "torch/device_guard.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace lta {

int64_t deviceCount(c10::DeviceType type) {
  const auto* guard = c10::impl::device_guard_impl_registry[static_cast<size_t>(type)].load();
  return guard ? guard->deviceCount() : 0;
}

c10::Stream currentStream(c10::Device device) { return c10::impl::VirtualGuardImpl(device.type()).getStream(device); }

c10::Stream streamOfPool(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

}  // namespace lta
