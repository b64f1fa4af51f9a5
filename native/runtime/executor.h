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

// The threads that run models. They are the addon's own: libuv's pool serves fs, dns and crypto and is never touched.
// Threads start when there is work for them; at most `concurrency` run at a time. One instance serves the process and
// is never destroyed, because its threads may outlive the static objects of libtorch at exit.
class Executor {
 public:
  static Executor& instance();

  // Runs `task` on one of the threads, first come first served among those that may start (see AdmissionPolicy). `task`
  // must not throw. Throws ERR_MODEL_RUN, and keeps nothing of the task, where no thread can be started for it.
  using Kind = AdmissionPolicy::Kind;
  void submit(std::function<void()> task, Kind kind);

  // The slot of the task that the calling thread runs; none on threads of others.
  static std::shared_ptr<Slot> currentSlot();

  // Nobody waits any more for the task that has this slot: another may start in its stead, though it may be at work in
  // a long operator still. Where many are, the slot is given up later.
  void abandon(const std::shared_ptr<Slot>& slot) noexcept;

  // Intra-op threads of one run (at::set_num_threads, which counts per thread: every worker applies it itself).
  void setNumThreads(int count);
  int numThreads();

  // The calling thread, an event loop's, computes by itself from now on, without other threads.
  void keepSequential();

  // How many runs may be in flight at once.
  void setConcurrency(int count);
  int concurrency();

  // Starts no further task, for good, and tells whether one is in flight. For the end of the process.
  bool close();

  // A process that exits while a model runs would destroy libtorch's static objects under the running thread: from here
  // on it leaves without destroying any. Handlers of exit run in reverse order, so the later this is called the better.
  void watchExit();

  // While one of these lives, a run waits for something outside (a hook on the event loop, a lock) and another may take
  // its slot. On any thread that works for a run: what a model forks runs on threads of its own.
  class Waiting {
   public:
    using For = AdmissionPolicy::Wait;
    explicit Waiting(For what = For::Dependency);
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

    // To be called now and then while it waits (see AdmissionPolicy::relieveStall).
    void checkForStall() const;

   private:
    const For what_;
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
  void giveUpOverdue();
  void loop();

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
