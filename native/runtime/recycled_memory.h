// Large blocks of CPU memory that are used again: the system zeroes each new page, which takes longer than filling it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <unordered_map>

namespace lta {

// Blocks come from the system directly: on the C library's heap, those that are kept would keep it from being trimmed.
// For any thread.
class RecycledMemory {
 public:
  // Blocks are of so many bytes at least; below, the C library's allocator is as fast.
  static constexpr size_t kLarge = 64 * 1024;
  // After so long without a block being taken, idle ones go back to the system.
  static constexpr auto kIdleTime = std::chrono::seconds(10);

  // The one of this process, never destroyed: tensors may be freed during static destruction.
  static RecycledMemory& instance();

  // At most `most` bytes wait for their next use, and no more than doubles what was in use at most.
  explicit RecycledMemory(size_t most, std::chrono::milliseconds idleTime = kIdleTime);
  ~RecycledMemory();
  RecycledMemory(const RecycledMemory&) = delete;
  RecycledMemory& operator=(const RecycledMemory&) = delete;

  // How long the block for so many bytes is: rounded up, so that tensors of similar size share blocks.
  static size_t lengthFor(size_t bytes);

  // A block for as many bytes, uninitialized and aligned to pages. Throws std::bad_alloc.
  void* take(size_t bytes);
  // Whether blocks of so many bytes would be kept.
  bool keeps(size_t bytes) const { return lengthFor(bytes) <= most_; }
  // Takes a block back; returns false for memory of others.
  bool give(void* address) noexcept;

  // Returns all idle blocks to the system.
  void release() noexcept;
  size_t idleBytes() const;

 private:
  struct Block {
    void* address;
    size_t length;
    uint64_t given;  // how many had been taken by then
  };
  using Blocks = std::list<Block>;

  // Under the mutex, as what follows.
  void use(void* address, size_t length);
  Blocks withdrawOldest();
  Blocks withdrawSurplus();
  void watch() noexcept;

  void releaseWhenIdle();

  const size_t most_;
  const std::chrono::milliseconds idleTime_;
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  std::unordered_map<void*, size_t> used_;
  Blocks idle_;                                            // most recent first
  std::map<size_t, std::deque<Blocks::iterator>> idleOf_;  // by length, most recent last
  size_t idleBytes_ = 0, usedBytes_ = 0;
  size_t mostUsed_ = 0;  // since all idle blocks were released
  uint64_t taken_ = 0;
  bool watched_ = false;  // by a thread
  bool ending_ = false;
};

}  // namespace lta
