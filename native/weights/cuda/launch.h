// What the kernel of weights_kernel.cu is launched with for a call of scaled_dot_product_attention. Needs no GPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "weights/weights.h"

namespace lta {

#include "weights/cuda/launch_arguments.inc"

// One way to compile the kernel.
struct KernelVariant {
  int type;   // LTA_TYPE
  int embed;  // LTA_EMBED

  auto operator<=>(const KernelVariant&) const = default;
};

struct Launch {
  KernelVariant variant;
  LaunchArguments arguments;
  int64_t blocks;                // of kBlockThreads each
  size_t sharedBytes;            // of a block
  at::Tensor weights;            // [B, H, Q, K], float32: what the kernel writes
  std::vector<at::Tensor> held;  // what the arguments point into
};

// The one that a call takes; absent for other types than float32, float16 and bfloat16, and more than 256 columns.
std::optional<KernelVariant> variantOf(const SdpaArguments& call);

// Makes the result. Absent where the kernel doesn't take the call: without a variant, or with nothing to compute.
std::optional<Launch> launchOf(const SdpaArguments& call, const Rows& rows);

}  // namespace lta
