#include "runtime/admission_policy.h"

#include <memory>
#include <vector>

#include "check.h"

namespace {

using Policy = lta::AdmissionPolicy;
using Admits = Policy::Admits;
using Wait = Policy::Wait;
using lta::Slot;

// A policy with a clock that the test advances.
struct Clocked {
  explicit Clocked(int concurrency) : policy(concurrency) {}

  std::shared_ptr<Slot> start() {
    auto slot = std::make_shared<Slot>();
    policy.start(*slot, now);
    return slot;
  }
  void advance(std::chrono::milliseconds by) { now += by; }

  Policy policy;
  Policy::Time now{};
};

}  // namespace

TEST("tasks start while slots are free, and another when one finishes") {
  Clocked clocked(2);
  EXPECT(clocked.policy.admits() == Admits::Any);
  const auto first = clocked.start(), second = clocked.start();
  EXPECT(clocked.policy.admits() == Admits::Nothing && clocked.policy.running() == 2);
  clocked.policy.finish(*first, clocked.now);
  EXPECT(clocked.policy.admits() == Admits::Any);
  clocked.policy.setConcurrency(1);
  EXPECT(clocked.policy.admits() == Admits::Nothing);
  clocked.policy.finish(*second, clocked.now);
  EXPECT(clocked.policy.running() == 0);
}

TEST("a blocked task yields its slot once, however many of its threads are blocked") {
  Clocked clocked(1);
  const auto slot = clocked.start();
  clocked.policy.beginWait(slot.get(), Wait::Dependency);
  clocked.policy.beginWait(slot.get(), Wait::Dependency);
  EXPECT(clocked.policy.admits() == Admits::Any && clocked.policy.detached() == 1);
  clocked.policy.endWait(slot.get(), Wait::Dependency, clocked.now);
  EXPECT(clocked.policy.admits() == Admits::Any);
  clocked.policy.endWait(slot.get(), Wait::Dependency, clocked.now);
  EXPECT(clocked.policy.admits() == Admits::Nothing && clocked.policy.detached() == 0);
}

TEST("with many blocked tasks only urgent ones start, until a stall raises the limit") {
  Clocked clocked(1);
  std::vector<std::shared_ptr<Slot>> waiting;
  for (int i = 0; i < Policy::kMaxWaiting; ++i) {
    waiting.push_back(clocked.start());
    clocked.policy.beginWait(waiting.back().get(), Wait::Dependency);
  }
  EXPECT(clocked.policy.admits() == Admits::Urgent);
  clocked.advance(Policy::kStall);
  EXPECT(!clocked.policy.relieveStall(clocked.now));
  clocked.advance(std::chrono::milliseconds(1));
  EXPECT(clocked.policy.relieveStall(clocked.now) && clocked.policy.admits() == Admits::Any);
  // The next step takes as long again.
  EXPECT(!clocked.policy.relieveStall(clocked.now));
  for (const auto& slot : waiting) clocked.policy.endWait(slot.get(), Wait::Dependency, clocked.now);
  for (const auto& slot : waiting) clocked.policy.finish(*slot, clocked.now);
  // The limit is reset when no task is blocked.
  for (int i = 0; i < Policy::kMaxWaiting; ++i) clocked.policy.beginWait(nullptr, Wait::Dependency);
  EXPECT(clocked.policy.admits() == Admits::Urgent);
}

TEST("no run takes the slot of one blocked by backpressure, until that stalls") {
  Clocked clocked(1);
  const auto slot = clocked.start();
  clocked.policy.beginWait(slot.get(), Wait::Backpressure);
  EXPECT(clocked.policy.admits() == Admits::Urgent);
  clocked.advance(Policy::kBackpressureStall);
  EXPECT(!clocked.policy.relieveStall(clocked.now));
  clocked.advance(std::chrono::milliseconds(1));
  EXPECT(clocked.policy.relieveStall(clocked.now) && clocked.policy.admits() == Admits::Any);
  const auto second = clocked.start();
  EXPECT(clocked.policy.admits() == Admits::Nothing);
  clocked.policy.finish(*second, clocked.now);
  clocked.policy.endWait(slot.get(), Wait::Backpressure, clocked.now);
  clocked.policy.beginWait(slot.get(), Wait::Backpressure);
  EXPECT(clocked.policy.admits() == Admits::Urgent);
}

TEST("progress of any task defers a stall") {
  Clocked clocked(2);
  const auto held = clocked.start();
  clocked.policy.beginWait(held.get(), Wait::Backpressure);
  const auto other = clocked.start();
  clocked.advance(Policy::kBackpressureStall);
  clocked.policy.finish(*other, clocked.now);
  clocked.advance(Policy::kBackpressureStall);
  EXPECT(!clocked.policy.relieveStall(clocked.now));
  clocked.advance(std::chrono::milliseconds(1));
  EXPECT(clocked.policy.relieveStall(clocked.now));
}

TEST("abandoned tasks release their slots immediately, those beyond a limit when they are overdue") {
  Clocked clocked(1);
  std::vector<std::shared_ptr<Slot>> abandoned;
  for (int i = 0; i < Policy::kMaxAbandoned; ++i) {
    abandoned.push_back(clocked.start());
    EXPECT(clocked.policy.abandon(abandoned.back()) && clocked.policy.admits() == Admits::Any);
    EXPECT(!clocked.policy.abandon(abandoned.back()));
  }
  auto late = clocked.start();
  EXPECT(!clocked.policy.abandon(late) && clocked.policy.anyOverdue() && clocked.policy.admits() == Admits::Nothing);
  EXPECT(clocked.policy.releaseOverdue() && clocked.policy.admits() == Admits::Any && !clocked.policy.anyOverdue());
  for (const auto& slot : abandoned) clocked.policy.finish(*slot, clocked.now);
  clocked.policy.finish(*late, clocked.now);
  EXPECT(clocked.policy.running() == 0);
  // Nothing is released for one that finishes before it is overdue, or that hasn't started.
  for (int i = 0; i < Policy::kMaxAbandoned; ++i) clocked.policy.abandon(abandoned[i] = clocked.start());
  late = clocked.start();
  clocked.policy.abandon(late);
  clocked.policy.finish(*late, clocked.now);
  EXPECT(!clocked.policy.releaseOverdue());
  EXPECT(!clocked.policy.abandon(std::make_shared<Slot>()));
}
