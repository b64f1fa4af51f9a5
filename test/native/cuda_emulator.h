// Runs a CUDA kernel's source on the CPU, one block after the other: each thread is a context of its own, which goes on
// to its next barrier, exchange or product, and waits there for the others. Threads that part ways there, and reads or
// writes beyond memory (with AddressSanitizer), are found. What it says of tensor cores is the layout that the PTX ISA
// documents.
#pragma once

#include <ATen/core/Tensor.h>
#include <ucontext.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

using Bits = uint32_t;

struct alignas(16) Vector {
  Bits words[4];
};

struct Index {
  int64_t x;
};

inline Index threadIdx;
inline Index blockIdx;

enum class Stop { kNone, kBarrier, kExchange, kProduct, kEnd };

// What the lanes of a warp show each other at one stop.
struct Shown {
  float value;
  Bits a[4];
  Bits b[2];
};

class Block {
 public:
  Block(int threads, size_t sharedVectors, std::function<void()> kernel)
      : shared_(sharedVectors),
        kernel_(std::move(kernel)),
        fibers_(static_cast<size_t>(threads)),
        shown_{std::vector<Shown>(fibers_.size()), std::vector<Shown>(fibers_.size())} {}

  void run(int64_t index) {
    current() = this;
    blockIdx.x = index;
    for (auto& fiber : fibers_) start(fiber);
    for (bool isOver = false; !isOver;) {
      for (int thread = 0; thread < static_cast<int>(fibers_.size()); ++thread) resume(thread);
      for (const auto& fiber : fibers_) {
        if (fiber.stop != fibers_.front().stop) throw std::runtime_error("threads stop at different places");
      }
      isOver = fibers_.front().stop == Stop::kEnd;
      ++round_;
    }
  }

  unsigned char* shared() { return reinterpret_cast<unsigned char*>(shared_.data()); }

  // Waits until all threads are here. Two rounds alternate, so that what a slower thread reads is not yet overwritten.
  void stopAt(Stop stop) {
    auto& fiber = fibers_[static_cast<size_t>(threadIdx.x)];
    fiber.stop = stop;
    leave(fiber);
  }

  Shown& shown(int64_t thread) { return shown_[round_ % 2][static_cast<size_t>(thread)]; }
  Shown& shownBefore(int64_t thread) { return shown_[(round_ + 1) % 2][static_cast<size_t>(thread)]; }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

 private:
  static constexpr size_t kStackBytes = size_t{256} << 10;

  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStackBytes);
    Stop stop = Stop::kNone;
    void* fake = nullptr;
  };

  static void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &current()->mainBottom_, &current()->mainSize_);
#endif
    current()->kernel_();
    auto& fiber = current()->fibers_[static_cast<size_t>(threadIdx.x)];
    fiber.stop = Stop::kEnd;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(nullptr, current()->mainBottom_, current()->mainSize_);
#endif
  }

  void start(Fiber& fiber) {
    fiber.stop = Stop::kNone;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = &main_;
    makecontext(&fiber.context, &Block::enter, 0);
  }

  void resume(int thread) {
    auto& fiber = fibers_[static_cast<size_t>(thread)];
    threadIdx.x = thread;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStackBytes);
#endif
    swapcontext(&main_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  void leave(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fiber.fake, mainBottom_, mainSize_);
#endif
    swapcontext(&fiber.context, &main_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake, &mainBottom_, &mainSize_);
#endif
  }

  std::vector<Vector> shared_;
  std::function<void()> kernel_;
  std::vector<Fiber> fibers_;
  std::vector<Shown> shown_[2];
  size_t round_ = 0;
  ucontext_t main_;
  const void* mainBottom_ = nullptr;
  size_t mainSize_ = 0;
};

inline float exchange(float value, int lanes) {
  auto& block = *Block::current();
  const auto thread = threadIdx.x;
  block.shown(thread).value = value;
  block.stopAt(Stop::kExchange);
  return block.shownBefore(thread ^ lanes).value;
}

// An element of a register: of float32 all of it, with the bits that tf32 has; of half types one of two.
template <int Type>
float element(Bits bits, int place) {
  if constexpr (Type == 32) return std::bit_cast<float>(bits & 0xffffe000u);
  const auto half = static_cast<uint16_t>(bits >> (16 * place));
  if constexpr (Type == 17) return std::bit_cast<float>(static_cast<Bits>(half) << 16);
  return static_cast<float>(c10::Half(half, c10::Half::from_bits()));
}

// mma.sync.m16n8k8 of tf32, m16n8k16 of half types.
template <int Type>
void multiply(float (&sums)[4], const Bits (&a)[4], const Bits (&b)[2]) {
  constexpr int kDepth = Type == 32 ? 8 : 16;
  constexpr int kWide = Type == 32 ? 1 : 2;  // elements of a register
  auto& block = *Block::current();
  const auto thread = threadIdx.x;
  const auto warp = thread / 32 * 32;
  auto& own = block.shown(thread);
  for (int i = 0; i < 4; ++i) own.a[i] = a[i];
  for (int i = 0; i < 2; ++i) own.b[i] = b[i];
  block.stopAt(Stop::kProduct);
  for (int i = 0; i < 4; ++i) {
    const auto row = thread % 32 / 4 + 8 * (i / 2);
    const auto column = 2 * (thread % 4) + i % 2;
    double sum = sums[i];
    for (int depth = 0; depth < kDepth; ++depth) {
      const int within = depth % (4 * kWide);
      const int beyond = depth / (4 * kWide);
      const auto& ofA = block.shownBefore(warp + row % 8 * 4 + within / kWide);
      const auto& ofB = block.shownBefore(warp + column * 4 + within / kWide);
      sum += static_cast<double>(element<Type>(ofA.a[row / 8 + 2 * beyond], within % kWide)) *
             element<Type>(ofB.b[beyond], within % kWide);
    }
    sums[i] = static_cast<float>(sum);
  }
}

}  // namespace emulator

#define LTA_EMULATED
#define LTA_KERNEL inline void
#define LTA_DEVICE inline
#define LTA_SHARED(name) unsigned char* const name = emulator::Block::current()->shared()
#define LTA_BARRIER() emulator::Block::current()->stopAt(emulator::Stop::kBarrier)
#define LTA_UNROLL
