#include <ATen/ATen.h>

#include <algorithm>
#include <iostream>
#include <vector>

#include "check.h"
#include "runtime/device_copy.h"
#include "runtime/devices.h"

namespace {

bool hasCuda() {
  const auto devices = lta::availableDevices();
  return std::find(devices.begin(), devices.end(), "cuda:0") != devices.end();
}

}  // namespace

TEST("CPU tensors aren't copied") {
  const auto tensor = at::rand({3, 4});
  EXPECT(lta::toCpu(tensor).is_same(tensor));
  lta::DeviceCopies copies;
  EXPECT(copies.toCpu(tensor.t()).is_alias_of(tensor));
  copies.wait();
}

TEST("copies from a device are intact, whatever the device does meanwhile") {
  if (!hasCuda()) {
    std::cout << "skipped: copies from a CUDA device, since there is none here\n";
    return;
  }
  const auto options = at::TensorOptions().device("cuda:0");
  lta::DeviceCopies copies;
  std::vector<at::Tensor> hosts;
  auto busy = at::rand({2048, 2048}, options);
  for (int i = 0; i < 20; ++i) {
    // Each source is freed as soon as its copy has begun, and its memory is requested again immediately.
    hosts.push_back(copies.toCpu(at::full({1 << 20}, i, options)));
    busy = at::matmul(busy, busy).clamp(-1, 1);
  }
  copies.wait();
  for (int i = 0; i < 20; ++i)
    EXPECT(hosts[static_cast<size_t>(i)].is_cpu() && hosts[static_cast<size_t>(i)].eq(i).all().item<bool>());

  const auto matrix = at::rand({5, 7}, options);
  for (const auto& view : {matrix, matrix.t(), matrix.narrow(1, 2, 3), matrix.select(0, 1), matrix.narrow(0, 0, 0)}) {
    const auto host = lta::toCpu(view);
    EXPECT(host.is_cpu() && at::equal(host, view.to(at::kCPU)));
  }
}
