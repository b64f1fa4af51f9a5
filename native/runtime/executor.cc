#include "runtime/executor.h"

#include <ATen/Parallel.h>

#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "runtime/deep_stack.h"
#include "runtime/error.h"
#include "runtime/run_scope.h"
#include "runtime/spin_until.h"
#include "torch/threads.h"

namespace lta {
namespace {

// How long an abandoned task beyond those that are given up at once keeps its slot.
constexpr auto kOverdue = std::chrono::milliseconds(500);

AdmissionPolicy::Time now() { return std::chrono::steady_clock::now(); }

thread_local std::shared_ptr<Slot> ownSlot;

// The slot that the calling thread works for: its own, or that of the run that forked it.
std::shared_ptr<Slot> workedFor() {
  if (ownSlot) return ownSlot;
  auto* const run = Cancellation::current();
  return run ? run->slot() : nullptr;
}

// How many cores the machine has for runs.
int coreCount() { return std::max(1, at::get_num_threads()); }

#if defined(__linux__)
void leaveWhileBusy(int status, void*) {
  if (!Executor::instance().close()) return;
  std::fflush(nullptr);
  _exit(status);
}
#endif

}  // namespace

Executor& Executor::instance() {
  static Executor* executor = new Executor();
  return *executor;
}

// One run uses all cores by default, as PyTorch does; from eight cores on, runs share them four by four instead, so
// that runs at a time × threads of a run never exceeds the cores.
Executor::Executor()
    : policy_(std::clamp(coreCount() / 4, 1, 8)), numThreads_(std::max(1, coreCount() / policy_.concurrency())) {}

void Executor::submit(std::function<void()> task, Kind kind) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (submitted_ == 0) watchExit();
  queue_.push_back({std::move(task), kind});
  ++submitted_;
  if (!startThreadIfNeeded() && threads_ == 0) {
    queue_.pop_back();
    throw Error("ERR_MODEL_RUN", "Expected to start a thread to run this on but the system refuses one");
  }
  ready_.notify_one();
}

std::shared_ptr<Slot> Executor::currentSlot() { return ownSlot; }

// The first task that may start now.
std::deque<Executor::Task>::iterator Executor::next() {
  const auto admits = closed_ ? AdmissionPolicy::Admits::Nothing : policy_.admits();
  if (admits == AdmissionPolicy::Admits::Nothing) return queue_.end();
  if (admits == AdmissionPolicy::Admits::Any) return queue_.begin();
  return std::find_if(queue_.begin(), queue_.end(), [](const Task& task) { return task.kind == Kind::Urgent; });
}

// False where one is needed and the system refuses it. A thread that ends its task then takes the next.
bool Executor::startThreadIfNeeded() noexcept {
  if (idle_ > 0 || next() == queue_.end()) return true;
  try {
    startOnDeepStack([this] { loop(); });
  } catch (const std::exception&) {
    return false;
  }
  ++threads_;
  ++idle_;
  return true;
}

void Executor::loop() {
  uint64_t epoch = UINT64_MAX;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    auto first = queue_.end();
    ready_.wait(lock, [&] { return (first = next()) != queue_.end(); });
    auto task = std::move(first->work);
    queue_.erase(first);
    --idle_;
    ownSlot = std::make_shared<Slot>();
    policy_.start(*ownSlot, now());
    startThreadIfNeeded();
    const bool apply = epoch != numThreadsEpoch_;
    epoch = numThreadsEpoch_;
    const int count = numThreads_;
    lock.unlock();
    if (apply) at::set_num_threads(count);
    task();
    task = nullptr;  // what the task held is released before the thread waits
    lock.lock();
    policy_.finish(*ownSlot, now());
    ownSlot = nullptr;
    // Took the slot of one that waited or was abandoned, which is back. A thread that stays keeps its team (see
    // keepSequential).
    if (threads_ - policy_.detached() > policy_.concurrency()) break;
    ++idle_;
    if (!queue_.empty()) {
      ready_.notify_one();
    } else {
      // Small models are called again at once.
      const uint64_t seen = submitted_;
      lock.unlock();
      spinUntil([&] { return submitted_ != seen; });
      lock.lock();
    }
  }
  --threads_;
  ready_.notify_one();
}

void Executor::abandon(const std::shared_ptr<Slot>& slot) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  const bool counting = policy_.anyOverdue();
  if (policy_.abandon(slot)) {
    startThreadIfNeeded();
    ready_.notify_all();
    return;
  }
  if (counting || !policy_.anyOverdue()) return;
  try {
    std::thread([this] { giveUpOverdue(); }).detach();
  } catch (const std::exception&) {
    policy_.giveUpOverdue();
    startThreadIfNeeded();
    ready_.notify_all();
  }
}

// On a thread of its own, for as long as there are some: one after the other.
void Executor::giveUpOverdue() {
  while (true) {
    std::this_thread::sleep_for(kOverdue);
    std::lock_guard<std::mutex> lock(mutex_);
    if (policy_.giveUpOverdue()) {
      startThreadIfNeeded();
      ready_.notify_all();
    }
    if (!policy_.anyOverdue()) return;
  }
}

void Executor::setNumThreads(int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  numThreads_ = count;
  ++numThreadsEpoch_;
}

// Each thread that computes in parallel has a team of OpenMP's of its own, which stays. Once all teams together have
// more threads than there are cores, libgomp sends every thread that waits for its next share to sleep almost at once,
// and waking it takes longer than many a layer's parts: a forward of 30 ms took 40 with one such team on the event
// loop.
void Executor::keepSequential() {
  initialiseIntraOpThreads();
  at::set_num_threads(1);
  // That is what threads begin with that libtorch starts itself, too, until a run says its own number again.
  std::lock_guard<std::mutex> lock(mutex_);
  ++numThreadsEpoch_;
}

int Executor::numThreads() {
  std::lock_guard<std::mutex> lock(mutex_);
  return numThreads_;
}

void Executor::setConcurrency(int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  policy_.setConcurrency(count);
  startThreadIfNeeded();
  ready_.notify_all();
}

int Executor::concurrency() {
  std::lock_guard<std::mutex> lock(mutex_);
  return policy_.concurrency();
}

bool Executor::close() {
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  return policy_.running() > 0 || RunScope::inFlight() > 0;
}

void Executor::watchExit() {
#if defined(__linux__)
  on_exit(leaveWhileBusy, nullptr);
#endif
}

Executor::Waiting::Waiting(For what) : what_(what), slot_(workedFor()) {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  executor.policy_.beginWait(slot_.get(), what_);
  executor.startThreadIfNeeded();
  executor.ready_.notify_one();
}

Executor::Waiting::~Waiting() {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  executor.policy_.endWait(slot_.get(), what_, now());
}

void Executor::Waiting::checkForStall() const {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  executor.startThreadIfNeeded();  // once more, where the system refused one
  if (executor.queue_.empty() || executor.next() != executor.queue_.end()) return;
  if (!executor.policy_.relieveStall(now())) return;
  executor.startThreadIfNeeded();
  executor.ready_.notify_all();
}

}  // namespace lta
