#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace lta {

// What a task has while it runs: a place among those that run at a time. All of it belongs to the executor's lock.
struct Place {
  bool running = false;
  bool abandoned = false;  // nobody waits for the task any more
  int waits = 0;           // how many of its threads wait (see Executor::Waiting)

  bool occupied() const { return running && !abandoned && waits == 0; }
  bool away() const { return running && !occupied(); }
};

// The threads that run models. They are the addon's own: libuv's pool serves fs, dns and crypto and is never touched.
// Threads start when there is work for them; at most `concurrency` run at a time. One instance serves the process and
// is never destroyed, because its threads may outlive the static objects of libtorch at exit.
class Executor {
 public:
  static Executor& instance();

  // Runs `task` on one of the threads, first come first served. `task` must not throw. Where many runs wait (see
  // Waiting) no further `Run` is begun until one of them goes on, or thousands of threads would wait side by side; what
  // a waiting run may itself wait for is `Urgent`. Nothing tells all of that: where they wait for long, more are begun.
  // Throws ERR_MODEL_RUN, and keeps nothing of the task, where no thread can be started for it.
  enum class Kind { Run, Urgent };
  void submit(std::function<void()> task, Kind kind);

  // The place of the task that the calling thread runs; none on threads of others.
  static std::shared_ptr<Place> here();

  // Nobody waits any more for the task that has this place: another may begin in its stead, though it may be at work
  // in a long operator still. Where many are, the place is given up later.
  void abandon(const std::shared_ptr<Place>& place) noexcept;

  // Intra-op threads of one run (at::set_num_threads, which counts per thread: every worker applies it itself).
  void setNumThreads(int count);
  int numThreads();

  // The calling thread, an event loop's, computes by itself from now on, without other threads.
  void keepSequential();

  // How many runs may be under way at once.
  void setConcurrency(int count);
  int concurrency();

  // Begins no further task, for good, and tells whether one is under way. For the end of the process.
  bool close();

  // A process that exits while a model runs would destroy libtorch's static objects under the running thread: from here
  // on it leaves without destroying any. Handlers of exit run in reverse order, so the later this is called the better.
  void watchExit();

  // While one of these lives, a run waits for something outside (a hook on the event loop, a lock) and another may take
  // its place, so that a waiting run never keeps a run that it waits for from starting. On any thread that works for a
  // run: what a model forks runs on libtorch's threads, while the executor's own waits for it.
  class Waiting {
   public:
    // Whose place may be taken: by any run, or only by what the one that waits may itself wait for. The latter is for
    // who hands out results and waits until there is room for more of them.
    enum class For { Anything, Room };
    explicit Waiting(For what = For::Anything);
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

    // To be called now and then: where all wait and nothing has gone on for long, what they wait for may be among what
    // isn't begun, and more is.
    void look() const;

   private:
    const For what_;
    const std::shared_ptr<Place> place_;
  };

 private:
  Executor();
  struct Task {
    std::function<void()> work;
    Kind kind;
  };
  std::deque<Task>::iterator next();
  bool startThreadIfNeeded() noexcept;
  template <typename Change>
  void change(Place& place, Change how);
  void giveUp(Place& place);
  void giveUpOverdue();
  void goesOn() { lastProgress_ = std::chrono::steady_clock::now(); }
  void loop();

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Task> queue_;
  std::atomic<uint64_t> submitted_{0};
  int concurrency_;
  int numThreads_;
  uint64_t numThreadsEpoch_ = 0;
  int threads_ = 0;
  int idle_ = 0;
  int running_ = 0;  // places that are occupied
  int away_ = 0;     // places whose tasks run without occupying them
  int abandoned_ = 0;
  std::deque<std::weak_ptr<Place>> overdue_;  // abandoned, but not given up yet
  int waiting_ = 0;
  int mostWaiting_;
  int forRoom_ = 0;  // of those that wait
  int beyond_ = 0;   // how many runs may begin in spite of them
  std::chrono::steady_clock::time_point lastProgress_;
  bool closed_ = false;
};

}  // namespace lta
