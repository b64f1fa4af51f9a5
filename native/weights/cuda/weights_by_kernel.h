// Attention weights on CUDA by a kernel of ours, which NVRTC compiles at its first use.
#pragma once

#include <string>

#include "weights/weights.h"

namespace lta {

// The weights of these rows, [B, H, Q, K] in float32, as operators compute them but for rounding. Undefined where the
// kernel doesn't serve: on other devices, for calls that launchOf leaves out, below compute capability 8.0, and where
// NVRTC or the driver refuse, or where what it computed of a sample at its first use was not what operators compute.
// That is decided once for a device and a variant of the kernel.
//
// Never run on a GPU so far, and so used only where the environment variable LIBTORCH_ATTENTION_CUDA_KERNEL is 1.
at::Tensor weightsByKernel(const SdpaArguments& call, const Rows& rows);

// Why the kernel isn't used, of the variant that was refused last; empty if none was.
std::string kernelRefusal();

}  // namespace lta
