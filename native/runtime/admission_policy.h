// Decides which tasks may start. No threads, no lock, no clock of its own: the executor calls it under its lock and
// passes the time.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>

namespace lta {

// The slot of one task. Only the policy writes to it.
struct Slot {
  bool running = false;
  bool abandoned = false;  // the caller no longer waits for the task
  int waits = 0;           // threads of the task that are blocked on something outside it

  bool occupied() const { return running && !abandoned && waits == 0; }
  // Running or blocked, without occupying a slot.
  bool detached() const { return running && !occupied(); }
};

// At most `concurrency` tasks occupy slots. A task that blocks on something outside (a hook, a lock) yields its slot,
// so that it never keeps what it waits for from starting.
//
// Once kMaxWaiting threads are blocked, no further run starts until one resumes; otherwise thousands could be blocked
// side by side. Urgent tasks, which a blocked run may depend on, always start. While a task is blocked by backpressure
// (the consumer of its results is full), no other run takes its slot. Neither rule knows every dependency: if nothing
// progresses for a while, the limits are raised step by step.
class AdmissionPolicy {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Kind { Run, Urgent };
  // Why a task is blocked.
  enum class Wait { Dependency, Backpressure };
  enum class Admits { Nothing, Urgent, Any };

  // Enough for nested hooks that call other models, few enough threads for any machine.
  static constexpr int kMaxWaiting = 32;
  // How long nothing must progress before kMaxWaiting is doubled, or one more run is admitted despite backpressure.
  static constexpr std::chrono::milliseconds kStall{300};
  static constexpr std::chrono::milliseconds kBackpressureStall{5000};
  // How many abandoned tasks may run without a slot. Each further one keeps its slot until it is overdue.
  static constexpr int kMaxAbandoned = 8;

  explicit AdmissionPolicy(int concurrency) : concurrency_(concurrency) {}

  int concurrency() const { return concurrency_; }
  void setConcurrency(int count) { concurrency_ = count; }

  Admits admits() const;

  // The lifecycle of a task's slot.
  void start(Slot& slot, Time now);
  void finish(Slot& slot, Time now);
  void beginWait(Slot* slot, Wait wait);  // null: the thread belongs to no task of this executor
  void endWait(Slot* slot, Wait wait, Time now);
  // Returns true if this releases the slot; beyond kMaxAbandoned, a later `releaseOverdue` does.
  bool abandon(const std::shared_ptr<Slot>& slot);
  // Releases one overdue slot; returns true if there was one.
  bool releaseOverdue();
  bool anyOverdue() const { return !overdue_.empty(); }

  // To be called while tasks are queued and none may start. Returns true if a limit was raised because nothing
  // progressed.
  bool relieveStall(Time now);

  // Running tasks, with and without slots.
  int running() const { return occupied_ + detached_; }
  int detached() const { return detached_; }

 private:
  template <typename Change>
  void update(Slot& slot, Change change);
  void releaseAbandoned(Slot& slot);

  int concurrency_;
  int occupied_ = 0;
  int detached_ = 0;
  int abandoned_ = 0;
  std::deque<std::weak_ptr<Slot>> overdue_;  // abandoned, slot not released yet
  int waiting_ = 0;
  int maxWaiting_ = kMaxWaiting;
  int backpressured_ = 0;  // of `waiting_`
  int overadmitted_ = 0;   // runs that may start despite backpressure
  Time lastProgress_;
};

}  // namespace lta
