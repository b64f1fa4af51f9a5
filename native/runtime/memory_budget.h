// Enforces `memoryLimit`.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace lta {

// The bytes of tensors that a run may hold at once; tensors that outlive the run count until they are freed. Lists,
// dictionaries and strings aren't counted: their growth shows in the process's resident memory only.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t limit);
  ~MemoryBudget();
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // Returns false, and reserves nothing, if less than that is left.
  bool tryReserve(size_t bytes);
  void release(size_t bytes);
  int64_t limit() const { return limit_; }
  int64_t held() const { return held_; }

  // Called when execution starts: the baseline of `excessiveGrowth`.
  void begin() noexcept;
  // The bytes that resident memory has grown by since `begin`, if tensors and other activity of the process can't
  // explain them; 0 otherwise. Rate-limited, so cheap enough for the back edge of a loop.
  int64_t excessiveGrowth() noexcept;

  // Reserves bytes for the run that the calling thread works for and returns its budget; null outside of runs and
  // without a limit. Stops the run with ERR_MEMORY_LIMIT if they exceed the limit. To be called before allocating.
  static std::shared_ptr<MemoryBudget> reserveForCurrentRun(size_t bytes);

 private:
  const int64_t limit_;
  std::atomic<int64_t> held_{0};
  std::atomic<int64_t> residentAtBegin_{0};
  std::atomic<int64_t> nextSample_{0};  // steady clock, nanoseconds
};

}  // namespace lta
