#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>

namespace lta {

// What a task has while it runs: one of the slots in which tasks run at a time. Belongs to the policy.
struct Slot {
  bool running = false;
  bool abandoned = false;  // nobody waits for the task any more
  int waits = 0;           // how many of its threads wait for something outside

  bool occupied() const { return running && !abandoned && waits == 0; }
  // At work, or waiting, without occupying a slot.
  bool detached() const { return running && !occupied(); }
};

// Decides which tasks may start. Has no threads, no lock and no clock of its own: to be called under one lock, and told
// the time.
//
// At most `concurrency` tasks occupy slots. One that waits for something outside (a hook, a lock) gives its slot up to
// others meanwhile, so that it never keeps what it waits for from starting. Where many wait, no further run starts
// until one of them goes on, or thousands of threads would wait side by side; what a waiting run may itself wait for is
// urgent and always starts. Where one waits since whoever takes its results has no room for more (backpressure), no
// other run takes its slot. Neither tells all that a task may wait for: where nothing has progressed for long, the
// limits are raised step by step, until something does.
class AdmissionPolicy {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Kind { Run, Urgent };
  // What a task waits for.
  enum class Wait { Dependency, Backpressure };
  enum class Admits { Nothing, Urgent, Any };

  // Enough for hooks that wait for other models in turn, and few enough for any machine.
  static constexpr int kMaxWaiting = 32;
  // How long nothing must have progressed for that limit to be doubled, and for one more run to start in spite of
  // backpressure.
  static constexpr std::chrono::milliseconds kStall{300};
  static constexpr std::chrono::milliseconds kBackpressureStall{5000};
  // How many abandoned tasks may be at work beside those in slots. Each further one keeps its slot until it is overdue.
  static constexpr int kMaxAbandoned = 8;

  explicit AdmissionPolicy(int concurrency) : concurrency_(concurrency) {}

  int concurrency() const { return concurrency_; }
  void setConcurrency(int count) { concurrency_ = count; }

  Admits admits() const;

  // The life of a task's slot.
  void start(Slot& slot, Time now);
  void finish(Slot& slot, Time now);
  void beginWait(Slot* slot, Wait wait);  // none: a thread that works for no task of ours
  void endWait(Slot* slot, Wait wait, Time now);
  // Whether the slot is given up at once; otherwise with a later `giveUpOverdue`.
  bool abandon(const std::shared_ptr<Slot>& slot);
  // Gives up one slot that is overdue, and tells whether it did.
  bool giveUpOverdue();
  bool anyOverdue() const { return !overdue_.empty(); }

  // To be called while tasks wait and none may start: raises a limit where nothing has progressed for long, and tells
  // whether it did.
  bool relieveStall(Time now);

  // How many tasks run, in slots and without.
  int running() const { return occupied_ + detached_; }
  int detached() const { return detached_; }

 private:
  template <typename Change>
  void change(Slot& slot, Change how);
  void giveUp(Slot& slot);

  int concurrency_;
  int occupied_ = 0;
  int detached_ = 0;
  int abandoned_ = 0;
  std::deque<std::weak_ptr<Slot>> overdue_;  // abandoned, but not given up yet
  int waiting_ = 0;
  int maxWaiting_ = kMaxWaiting;
  int backpressured_ = 0;   // of those that wait
  int startedInSpite_ = 0;  // runs that may start in spite of backpressure
  Time lastProgress_;
};

}  // namespace lta
