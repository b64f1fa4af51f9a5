#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace lta {

// The bytes of tensors that a run may hold at once. What outlives the run counts until it is freed. Lists, dictionaries
// and strings aren't counted one by one: where they grow without end, the whole process tells.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t most);
  ~MemoryBudget();
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // False where that is more than is left: nothing is taken then.
  bool take(size_t bytes);
  void give(size_t bytes);
  int64_t most() const { return most_; }
  int64_t held() const { return held_; }

  // The start of execution: the process has grown from here.
  void begin() noexcept;
  // How many bytes the process has grown by since then, where that is more than the tensors of the run and everything
  // else that a process does may explain; 0 otherwise. Looks at the system now and then only: to be called on the back
  // edge of loops.
  int64_t excessiveGrowth() noexcept;

  // The budget of the run that the calling thread takes part in, from which these bytes were taken; none where it has
  // none. Ends the run with ERR_MEMORY_LIMIT where they are too many. To be called before memory is allocated.
  static std::shared_ptr<MemoryBudget> takeOfCurrentRun(size_t bytes);

  // Has libtorch's CPU memory counted, from now on: puts an allocator around the one that is there. To be called once,
  // before any tensor exists. Runs without a budget get what they would get without it.
  static void watchAllocations();

 private:
  const int64_t most_;
  std::atomic<int64_t> held_{0};
  std::atomic<int64_t> residentAtBegin_{0};
  std::atomic<int64_t> nextLook_{0};  // of the steady clock, in nanoseconds
};

}  // namespace lta
