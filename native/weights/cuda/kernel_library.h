// The kernel of weights_kernel.cu, compiled by NVRTC and launched by CUDA's driver. Both are opened when they are first
// needed, those that libtorch brings: nothing of CUDA is needed to build this.
#pragma once

#include <c10/core/Stream.h>

#include <memory>
#include <string>

#include "weights/cuda/launch.h"

namespace lta {

class CompiledKernel {
 public:
  struct Result {
    std::unique_ptr<CompiledKernel> kernel;
    std::string refusal;  // why there is none

    explicit operator bool() const { return kernel != nullptr; }
    CompiledKernel& operator*() const { return *kernel; }
  };

  // For the device that is current, whose context exists.
  static Result compile(const KernelVariant& variant, int device);

  // Launches it on a stream of that device; what it reads and writes has to be on it. Returns why it could not; what
  // fails while it runs is told by the device's next call, as of every kernel.
  std::string run(const Launch& launch, const c10::Stream& stream);

 private:
  explicit CompiledKernel(void* function) : function_(function) {}

  void* function_;
};

}  // namespace lta
