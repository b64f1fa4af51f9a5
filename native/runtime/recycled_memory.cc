#include "runtime/recycled_memory.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <new>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "runtime/available_memory.h"

namespace lta {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = 2 * 1024 * 1024;
constexpr size_t kStep = 64 * 1024;
// A block that is idle serves for less, down to this part of it: where lengths change from call to call, the right one
// is rarely there.
constexpr size_t kMostSpare = 2;
// A block that waited while so many others were taken is of a size that isn't asked for any more. A forward takes some
// hundreds.
constexpr uint64_t kMostOvertaken = 10'000;

// Limit of idle memory: a sixteenth of the memory available to the process, but at least the weights of two captures of
// a BERT-sized model at 512 tokens unless that is over a quarter of it; or the value of the environment variable.
size_t mostIdleBytes() {
  constexpr uint64_t kLeast = 256 * 1024 * 1024;
  if (const char* given = std::getenv("LIBTORCH_ATTENTION_RESULT_MEMORY")) {
    char* end = nullptr;
    const auto bytes = std::strtoull(given, &end, 10);
    if (end != given && *end == 0) return bytes;
  }
  const auto available = availableMemory();
  return std::min(std::max(kLeast, available / 16), available / 4);
}

#if defined(__linux__)
void* fromSystem(size_t length) {
  // Long blocks are aligned to huge pages and ask for them; it is only slower without.
  const size_t extra = length >= 2 * kHugePage ? kHugePage : 0;
  void* mapped = mmap(nullptr, length + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  if (extra == 0) return mapped;
  auto* const begin = static_cast<char*>(mapped);
  const size_t ahead = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (ahead > 0) munmap(begin, ahead);
  if (extra > ahead) munmap(begin + ahead + length, extra - ahead);
  madvise(begin + ahead, length, MADV_HUGEPAGE);
  return begin + ahead;
}
void toSystem(void* address, size_t length) noexcept { munmap(address, length); }
#else
void* fromSystem(size_t length) { return ::operator new(length, std::align_val_t(kPage)); }
void toSystem(void* address, size_t) noexcept { ::operator delete(address, std::align_val_t(kPage)); }
#endif

}  // namespace

RecycledMemory& RecycledMemory::instance() {
  static auto* const memory = new RecycledMemory(mostIdleBytes());
  return *memory;
}

RecycledMemory::RecycledMemory(size_t most, std::chrono::milliseconds idleTime) : most_(most), idleTime_(idleTime) {}

RecycledMemory::~RecycledMemory() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    ending_ = true;
    ended_.notify_all();
    ended_.wait(lock, [&] { return !watched_; });
  }
  release();
}

size_t RecycledMemory::lengthFor(size_t bytes) {
  const size_t step = bytes < 2 * kHugePage ? kStep : kHugePage;
  if (bytes > SIZE_MAX - step) throw std::bad_alloc();
  return (bytes + step - 1) / step * step;
}

void* RecycledMemory::take(size_t bytes) {
  const size_t length = lengthFor(bytes);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++taken_;
    const auto found = idleOf_.lower_bound(length);
    if (found != idleOf_.end() && found->first / kMostSpare <= length) {
      const auto block = found->second.back();
      void* const address = block->address;
      const size_t whole = block->length;
      use(address, whole);
      found->second.pop_back();
      if (found->second.empty()) idleOf_.erase(found);
      idle_.erase(block);
      idleBytes_ -= whole;
      return address;
    }
  }
  void* address = nullptr;
  try {
    address = fromSystem(length);
  } catch (const std::bad_alloc&) {
    release();  // idle blocks may be what is missing
    address = fromSystem(length);
  }
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    use(address, length);
  } catch (...) {
    toSystem(address, length);
    throw;
  }
  return address;
}

bool RecycledMemory::give(void* address) noexcept {
  if (reinterpret_cast<uintptr_t>(address) % kPage != 0) return false;
  Blocks freed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = used_.find(address);
    if (found == used_.end()) return false;
    const size_t length = found->second;
    used_.erase(found);
    usedBytes_ -= length;
    try {
      idle_.push_front({address, length, taken_});
      try {
        idleOf_[length].push_back(idle_.begin());
      } catch (...) {
        freed.splice(freed.end(), idle_, idle_.begin());
        throw;
      }
      idleBytes_ += length;
      freed = withdrawSurplus();
      watch();
    } catch (...) {
      if (freed.empty()) toSystem(address, length);
    }
  }
  for (const auto& block : freed) toSystem(block.address, block.length);
  return true;
}

void RecycledMemory::use(void* address, size_t length) {
  used_.emplace(address, length);
  usedBytes_ += length;
  mostUsed_ = std::max(mostUsed_, usedBytes_);
}

RecycledMemory::Blocks RecycledMemory::withdrawOldest() {
  Blocks withdrawn;
  const auto oldest = std::prev(idle_.end());
  const auto same = idleOf_.find(oldest->length);
  same->second.pop_front();
  if (same->second.empty()) idleOf_.erase(same);
  idleBytes_ -= oldest->length;
  withdrawn.splice(withdrawn.end(), idle_, oldest);
  return withdrawn;
}

RecycledMemory::Blocks RecycledMemory::withdrawSurplus() {
  Blocks surplus;
  // Lengths that change from call to call would otherwise each keep blocks of their own.
  while (!idle_.empty() && (idleBytes_ > most_ || idleBytes_ + usedBytes_ > 2 * mostUsed_ ||
                            taken_ - idle_.back().given > kMostOvertaken)) {
    surplus.splice(surplus.end(), withdrawOldest());
  }
  return surplus;
}

void RecycledMemory::release() noexcept {
  Blocks freed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    freed.swap(idle_);
    idleOf_.clear();
    idleBytes_ = 0;
    mostUsed_ = usedBytes_;
  }
  for (const auto& block : freed) toSystem(block.address, block.length);
}

size_t RecycledMemory::idleBytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return idleBytes_;
}

// A thread lives while blocks are idle.
void RecycledMemory::watch() noexcept {
  if (watched_ || idle_.empty()) return;
  try {
    std::thread([this] { releaseWhenIdle(); }).detach();
    watched_ = true;
  } catch (const std::exception&) {
    // The next block that is given back tries again.
  }
}

void RecycledMemory::releaseWhenIdle() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ending_ && !idle_.empty()) {
    const auto before = taken_;
    ended_.wait_for(lock, idleTime_, [&] { return ending_; });
    if (ending_ || taken_ != before) continue;
    lock.unlock();
    release();
    lock.lock();
  }
  watched_ = false;
  ended_.notify_all();
}

}  // namespace lta
