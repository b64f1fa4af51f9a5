// The threads that run models: the addon's own, never libuv's pool, which serves fs, dns and crypto. Knows nothing of
// models.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "runtime/admission_policy.h"

namespace lta {

// Starts threads on demand; at most `concurrency` tasks run at once. One instance per process, never destroyed: its
// threads may outlive libtorch's static objects at exit.
class Executor {
 public:
  static Executor& instance();

  // Queues `task`, which must not throw; first come, first served among those that the AdmissionPolicy admits. Throws
  // ERR_MODEL_RUN, and drops the task, if no thread can be started.
  using Kind = AdmissionPolicy::Kind;
  void submit(std::function<void()> task, Kind kind);

  // The slot of the task that the calling thread runs; null on other threads.
  static std::shared_ptr<Slot> currentSlot();

  // The caller no longer waits for the task with this slot: another may start although this one may still be inside a
  // long operator. With many abandoned tasks, the slot is released later.
  void abandon(const std::shared_ptr<Slot>& slot) noexcept;

  // Intra-op threads per run. at::set_num_threads is thread-local: every worker applies it itself.
  void setNumThreads(int count);
  int numThreads();
  // Of the cores that libtorch would use, those that the running tasks leave idle.
  int idleCores();

  // Makes the calling thread, an event loop's, compute sequentially from now on.
  void makeSequential();

  // How many runs may occupy slots at once.
  void setConcurrency(int count);
  int concurrency();

  // Stops starting tasks, for good; returns true if one is in flight. For the end of the process.
  bool close();

  // If the process exits during a run, it skips static destructors, which would destroy libtorch under the running
  // thread. Exit handlers run in reverse order, so this is best called late.
  void watchExit();

  // While one lives, the run is blocked on something outside (a hook on the event loop, a lock) and yields its slot.
  // For any thread of a run: a model's forked tasks have threads of their own.
  class Waiting {
   public:
    using Reason = AdmissionPolicy::Wait;
    explicit Waiting(Reason reason = Reason::Dependency);
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

    // To be called periodically while blocked (see AdmissionPolicy::relieveStall).
    void checkForStall() const;

   private:
    const Reason reason_;
    const std::shared_ptr<Slot> slot_;
  };

 private:
  Executor();
  struct Task {
    std::function<void()> work;
    Kind kind;
  };
  std::deque<Task>::iterator next();
  bool startThreadIfNeeded() noexcept;
  void releaseOverdue();
  void loop();

  const int cores_;
  std::mutex mutex_;
  std::condition_variable ready_;
  AdmissionPolicy policy_;
  std::deque<Task> queue_;
  std::atomic<uint64_t> submitted_{0};
  int numThreads_;
  uint64_t numThreadsEpoch_ = 0;
  int threads_ = 0;
  int idle_ = 0;
  bool closed_ = false;
};

}  // namespace lta
