// The source of the kernel for CUDA, run on the CPU: what it computes, and that it reads and writes nothing else. That
// it runs on a GPU is for scripts/gpu-check to show.
#include <ATen/ATen.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <map>
#include <string>

#include "check.h"
#include "cuda_emulator.h"
#include "torch/device_guard.h"
#include "weights/cuda/launch.h"
#include "weights/cuda/weights_by_kernel.h"
#include "weights/weights.h"

namespace {

using lta::Rows;
using lta::SdpaArguments;

// What the kernel's source has of its surroundings, beside the macros.
#define LTA_SURROUNDINGS                                                              \
  using emulator::Bits;                                                               \
  using emulator::blockIdx;                                                           \
  using emulator::exchange;                                                           \
  using emulator::threadIdx;                                                          \
  using emulator::Vector;                                                             \
  using lta::kBlockRows;                                                              \
  using lta::kBlockThreads;                                                           \
  using lta::kVectorBytes;                                                            \
  using lta::LaunchArguments;                                                         \
  inline Bits bitsOf(float value) { return std::bit_cast<Bits>(value); }              \
  inline float floatOf(Bits bits) { return std::bit_cast<float>(bits); }              \
  inline float negativeInfinity() { return -std::numeric_limits<float>::infinity(); } \
  inline void multiply(float (&sums)[4], const Bits(&a)[4], const Bits(&b)[2]) {      \
    emulator::multiply<LTA_TYPE>(sums, a, b);                                         \
  }

#define LTA_TYPE 32
#define LTA_EMBED 16
namespace float32of16 {
LTA_SURROUNDINGS
#include "weights/cuda/weights_kernel.cu"
}  // namespace float32of16
#undef LTA_EMBED
#define LTA_EMBED 48
namespace float32of48 {
LTA_SURROUNDINGS
#include "weights/cuda/weights_kernel.cu"
}  // namespace float32of48
#undef LTA_TYPE
#define LTA_TYPE 16
namespace float16of48 {
LTA_SURROUNDINGS
#include "weights/cuda/weights_kernel.cu"
}  // namespace float16of48
#undef LTA_TYPE
#define LTA_TYPE 17
namespace bfloat16of48 {
LTA_SURROUNDINGS
#include "weights/cuda/weights_kernel.cu"
}  // namespace bfloat16of48

using Kernel = void (*)(lta::LaunchArguments);

Kernel kernelOf(const lta::KernelVariant& variant) {
  static const std::map<lta::KernelVariant, Kernel> all = {
      {{32, 16}, &float32of16::attention_weights},
      {{32, 48}, &float32of48::attention_weights},
      {{16, 48}, &float16of48::attention_weights},
      {{17, 48}, &bfloat16of48::attention_weights},
  };
  return all.at(variant);
}

at::Tensor emulated(const SdpaArguments& call, const Rows& rows = {}) {
  const auto launch = lta::launchOf(call, rows);
  EXPECT(launch.has_value());
  // What isn't written stays so.
  launch->weights.fill_(-7);
  const auto kernel = kernelOf(launch->variant);
  emulator::Block block(lta::kBlockThreads, launch->sharedBytes / sizeof(emulator::Vector),
                        [&] { kernel(launch->arguments); });
  for (int64_t index = 0; index < launch->blocks; ++index) block.run(index);
  return launch->weights;
}

// How far it is from what the CPU's own kernels compute, in float32 as well.
double distance(const SdpaArguments& call, const Rows& rows = {}) {
  lta::Wanted wanted;
  wanted.rows = rows;
  const auto expected = lta::computeWeights(call, wanted).weights;
  const auto weights = emulated(call, rows);
  EXPECT(weights.sizes() == expected.sizes());
  return (weights - expected).abs().max().item<double>();
}

constexpr double kAlike = 3e-6;

// Heads are interleaved with positions, as after a projection.
SdpaArguments sample(int64_t queries, int64_t keys, int64_t embed = 48, at::ScalarType type = at::kFloat,
                     int64_t keyHeads = 2) {
  at::manual_seed(queries * 1000 + keys);
  SdpaArguments call;
  call.query = at::randn({2, queries, 2, embed}).transpose(1, 2).to(type);
  call.key = at::randn({2, keys, keyHeads, embed}).transpose(1, 2).to(type);
  call.groupedQuery = keyHeads != 2;
  return call;
}

}  // namespace

TEST("the kernel for CUDA: rows and keys of any number, by float32 and half types") {
  for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{1, 1}, {7, 130}, {65, 64}, {130, 67}}) {
      EXPECT(distance(sample(queries, keys, 48, type)) < kAlike);
    }
  }
}

TEST("the kernel for CUDA: as many columns as there are, aligned or not") {
  for (const auto embed : {int64_t{3}, int64_t{8}, int64_t{13}, int64_t{16}, int64_t{33}, int64_t{40}}) {
    EXPECT(distance(sample(20, 70, embed)) < kAlike);
  }
  EXPECT(distance(sample(20, 70, 40, at::kHalf)) < kAlike);
  EXPECT(distance(sample(20, 70, 35, at::kBFloat16)) < kAlike);
  // A view that begins within sixteen bytes, and one whose columns aren't side by side.
  auto call = sample(20, 70, 17);
  call.query = call.query.narrow(-1, 1, 16);
  call.key = call.key.narrow(-1, 1, 16);
  EXPECT(lta::launchOf(call, {})->arguments.vectors == 0);
  EXPECT(distance(call) < kAlike);
  call = sample(20, 70, 16);
  EXPECT(lta::launchOf(call, {})->arguments.vectors == 1);
  call.key = call.key.transpose(-1, -2).contiguous().transpose(-1, -2);
  EXPECT(distance(call) < kAlike);
}

TEST("the kernel for CUDA: causal calls, of all rows and of some") {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{130, 130}, {70, 200}, {200, 70}}) {
    auto call = sample(queries, keys, 16);
    call.causal = true;
    EXPECT(distance(call) < kAlike);
    EXPECT(distance(call, {std::nullopt, std::vector<int64_t>{69, 3, 0}}) < kAlike);
  }
}

TEST("the kernel for CUDA: masks of either kind, broadcast in each dimension, and rows that see nothing") {
  auto call = sample(70, 90, 16);
  for (const auto& sizes : {std::vector<int64_t>{2, 2, 70, 90}, {90}, {70, 1}, {2, 1, 1, 90}, {1, 2, 70, 90}}) {
    call.mask = at::rand(sizes).gt(0.3);
    EXPECT(distance(call) < kAlike);
    call.mask = at::randn(sizes);
    EXPECT(distance(call) < kAlike);
    EXPECT(distance(call, {std::vector<int64_t>{1}, std::vector<int64_t>{5, 69}}) < kAlike);
  }
  call.mask = at::ones({2, 1, 70, 90}, at::kBool);
  call.mask->select(2, 66).fill_(false);
  EXPECT(distance(call) < kAlike);
  EXPECT(emulated(call).select(2, 66).abs().max().item<float>() == 0);
  call.mask = call.mask->to(at::kFloat).log();
  EXPECT(distance(call) < kAlike);
  call.mask = call.mask->to(at::kDouble);
  EXPECT(distance(call) < kAlike);
}

TEST("the kernel for CUDA: grouped keys, selected heads, a batch that one side lacks, and a scale") {
  auto call = sample(20, 70, 16, at::kFloat, 1);
  EXPECT(distance(call) < kAlike);
  EXPECT(distance(call, {std::vector<int64_t>{1}, std::nullopt}) < kAlike);
  at::manual_seed(0);
  call.query = at::randn({2, 6, 20, 16});
  call.key = at::randn({2, 3, 70, 16});
  EXPECT(distance(call) < kAlike);
  EXPECT(distance(call, {std::vector<int64_t>{5, 0, 2}, std::vector<int64_t>{1}}) < kAlike);
  call = sample(20, 70, 16);
  call.key = call.key.slice(0, 0, 1);
  call.scale = 2.0;
  EXPECT(distance(call) < kAlike);
  call = sample(20, 70, 16);
  call.query = call.query[0];
  call.key = call.key[0];
  EXPECT(distance(call) < kAlike);
  call.query = at::randn({2, 2, 2, 20, 16});
  call.key = at::randn({2, 2, 2, 70, 16});
  EXPECT(distance(call) < kAlike);
}

TEST("the kernel for CUDA: large scores don't overflow, and what is no number stays so") {
  auto call = sample(70, 130, 16);
  call.scale = 30.0;
  EXPECT(distance(call) < 1e-4);  // a score of 400 is rounded to 3e-5 on either side
  call.scale = std::nullopt;
  call.query[0][0][3].fill_(NAN);
  const auto weights = emulated(call);
  EXPECT(weights[0][0][3].isnan().all().item<bool>());
  EXPECT(weights.isnan().sum().item<int64_t>() == 130);
}

TEST("the kernel for CUDA takes no call that it can't compute, and none on other devices") {
  EXPECT(!lta::launchOf(sample(20, 70, 16, at::kDouble), {}));
  EXPECT(!lta::launchOf(sample(20, 70, 257), {}));
  auto call = sample(20, 70, 16);
  call.key = call.key.to(at::kHalf);
  EXPECT(!lta::launchOf(call, {}));
  EXPECT(!lta::weightsByKernel(sample(20, 70, 16), {}).defined());
}

TEST("the kernel on a CUDA device computes what operators do, where it is enabled") {
  if (lta::deviceCount(at::kCUDA) == 0) {
    std::cout << "skipped: the kernel on a CUDA device, since there is none here\n";
    return;
  }
  setenv("LIBTORCH_ATTENTION_CUDA_KERNEL", "1", /*overwrite=*/1);
  for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const auto embed : {int64_t{7}, int64_t{32}, int64_t{64}, int64_t{128}, int64_t{256}}) {
      for (const bool causal : {false, true}) {
        auto call = sample(130, 200, embed, type);
        call.causal = causal;
        if (!causal) call.mask = at::rand({2, 1, 130, 200}).gt(0.3);
        const auto expected = lta::computeWeights(call, {}).weights;
        call.query = call.query.to(at::kCUDA);
        call.key = call.key.to(at::kCUDA);
        if (call.mask) call.mask = call.mask->to(at::kCUDA);
        const auto weights = lta::weightsByKernel(call, {});
        if (!weights.defined()) throw std::runtime_error("refused: " + lta::kernelRefusal());
        EXPECT((weights.cpu() - expected).abs().max().item<double>() < 1e-5);
      }
    }
  }
  unsetenv("LIBTORCH_ATTENTION_CUDA_KERNEL");
}
