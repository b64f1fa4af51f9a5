// Reusable per-thread memory for intermediate results (`thread_local Scratch`), which any thread may release.
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

namespace lta {

// The part that doesn't depend on the element type.
class ScratchBase {
 public:
  ScratchBase(const ScratchBase&) = delete;
  ScratchBase& operator=(const ScratchBase&) = delete;

  // Frees what no thread uses now; memory in use is freed at the end of its use.
  static void releaseAll();

 protected:
  ScratchBase();
  ~ScratchBase();

  // Returns false if it is in use or being released.
  bool begin() { return !busy_.exchange(true, std::memory_order_acquire); }
  void end() {
    if (release_.exchange(false, std::memory_order_relaxed)) free();
    busy_.store(false, std::memory_order_release);
  }
  virtual void free() = 0;

 private:
  std::atomic<bool> busy_{false};
  std::atomic<bool> release_{false};
};

template <typename T>
class Scratch final : public ScratchBase {
 public:
  ~Scratch() = default;

  // At least `count` uninitialized elements, for the lifetime of this object.
  class Use {
   public:
    Use(Scratch& scratch, size_t count) : scratch_(scratch), kept_(scratch.begin()) {
      auto& memory = kept_ ? scratch_.memory_ : own_;
      if (memory.size() < count) memory.resize(count);
      data_ = memory.data();
    }
    ~Use() {
      if (kept_) scratch_.end();
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    T* data() const { return data_; }

   private:
    Scratch& scratch_;
    const bool kept_;
    std::vector<T> own_;
    T* data_;
  };

 private:
  void free() override { std::vector<T>().swap(memory_); }
  std::vector<T> memory_;
};

}  // namespace lta
