// A thread that works beside the runs where they leave cores idle.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

namespace lta {

// Takes work that a run needs only later. One instance per process, never destroyed: its thread may outlive static
// objects at exit. Safe to use from several threads at once.
class Companion {
 public:
  static Companion& instance();

  // Work that was handed over.
  class Job {
   private:
    friend class Companion;
    std::function<void()> work;
    bool done = false;
  };
  using JobPtr = std::shared_ptr<Job>;

  // Whether it takes work of the calling thread now: one of the executor's runs, beside which enough cores are idle for
  // the run's own threads not to be done sooner, and nothing else waits.
  bool isFree();

  // Hands over `work`, which must not throw. Its loops are shared by as many threads as there are idle cores. Returns
  // null where the companion doesn't take it.
  JobPtr offer(std::function<void()> work);

  // Returns once `job` is done. One that hasn't begun is run on the calling thread.
  void finish(const JobPtr& job);

 private:
  Companion() = default;
  bool startThread() noexcept;
  void loop();

  std::mutex mutex_;
  std::condition_variable ready_, done_;
  JobPtr waiting_;
  bool started_ = false;
};

}  // namespace lta
