// A few threads that share loops of one other thread, without OpenMP, whose teams slow each other down once they have
// more threads than there are cores.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>

namespace lta {

// One instance per process, never destroyed: its threads may outlive static objects at exit.
class Crew {
 public:
  static Crew& instance();

  // While one lives, loops of the calling thread (`shareTasks`) are shared with up to `threads` - 1 of the crew instead
  // of libtorch's threads. On one thread at a time: the companion's.
  class Scope {
   public:
    explicit Scope(int64_t threads);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };

  // How many threads share the calling thread's loops; 0 where they are libtorch's.
  static int64_t threadsHere();

  // Runs `work(0)` on the calling thread and `work(1)` … `work(members - 1)` on others. Those that haven't begun when
  // `work(0)` returns are left out, so `work` must be complete without them. Throws the first exception of any.
  void run(int64_t members, const std::function<void(int64_t)>& work);

 private:
  Crew() = default;
  void startThreads(int64_t members) noexcept;
  void loop();

  std::mutex mutex_;
  std::condition_variable ready_, left_;
  const std::function<void(int64_t)>* work_ = nullptr;
  int64_t next_ = 0;  // the member that begins next
  int64_t members_ = 0;
  int64_t inside_ = 0;  // members that have begun and not ended
  int64_t threads_ = 0;
  std::exception_ptr failure_;
};

}  // namespace lta
