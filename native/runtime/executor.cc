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
#include "runtime/spin.h"
#include "runtime/team.h"
#include "torch/threads.h"

namespace lta {
namespace {

// How long an abandoned task keeps its slot once kMaxAbandoned others have released theirs.
constexpr auto kOverdue = std::chrono::milliseconds(500);

// The threads of a team sleep after 0.7 ms without work, and waking them takes less than a fiftieth of such a run.
constexpr auto kAsleep = std::chrono::milliseconds(1);
constexpr auto kWorthWaking = std::chrono::milliseconds(3);

AdmissionPolicy::Time now() { return std::chrono::steady_clock::now(); }

thread_local std::shared_ptr<Slot> taskSlot;

// The slot of the run that the calling thread works for, as its task or as a task that it forked.
std::shared_ptr<Slot> currentRunSlot() {
  if (taskSlot) return taskSlot;
  auto* const run = Cancellation::current();
  return run ? run->slot() : nullptr;
}

// Intra-op threads that libtorch would use: the cores available to runs.
int coreCount() { return std::max(1, at::get_num_threads()); }

#if defined(__linux__)
void exitWithoutDestructors(int status, void*) {
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

// One run uses all cores by default, as in PyTorch; with eight cores or more, each run gets four, so that concurrent
// runs × intra-op threads never exceeds the cores.
Executor::Executor()
    : cores_(coreCount()),
      policy_(std::clamp(cores_ / 4, 1, 8)),
      numThreads_(std::max(1, cores_ / policy_.concurrency())) {}

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

std::shared_ptr<Slot> Executor::currentSlot() { return taskSlot; }

// The first task that may start now; end() for none.
std::deque<Executor::Task>::iterator Executor::next() {
  const auto admits = closed_ ? AdmissionPolicy::Admits::Nothing : policy_.admits();
  if (admits == AdmissionPolicy::Admits::Nothing) return queue_.end();
  if (admits == AdmissionPolicy::Admits::Any) return queue_.begin();
  return std::find_if(queue_.begin(), queue_.end(), [](const Task& task) { return task.kind == Kind::Urgent; });
}

// Returns false if a thread is needed but the system refuses it; the next thread that finishes its task then takes
// over.
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
  AdmissionPolicy::Time ended = now();  // of the last task
  auto took = AdmissionPolicy::Time::duration::zero();
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    auto first = queue_.end();
    ready_.wait(lock, [&] { return (first = next()) != queue_.end(); });
    auto task = std::move(first->work);
    queue_.erase(first);
    --idle_;
    taskSlot = std::make_shared<Slot>();
    policy_.start(*taskSlot, now());
    startThreadIfNeeded();
    const bool apply = epoch != numThreadsEpoch_;
    epoch = numThreadsEpoch_;
    const int count = numThreads_;
    lock.unlock();
    if (apply) at::set_num_threads(count);
    const auto began = now();
    if (count > 1 && took >= kWorthWaking && began - ended >= kAsleep) wakeTeam(count);
    task();
    task = nullptr;  // releases what the task owns before the thread blocks
    ended = now();
    took = ended - began;
    lock.lock();
    policy_.finish(*taskSlot, now());
    taskSlot = nullptr;
    // This thread was started in place of a blocked or abandoned one that is back. Threads that stay keep their OpenMP
    // team (see makeSequential).
    if (threads_ - policy_.detached() > policy_.concurrency()) break;
    ++idle_;
    if (!queue_.empty()) {
      ready_.notify_one();
    } else {
      // Small models are often called again immediately.
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
    std::thread([this] { releaseOverdue(); }).detach();
  } catch (const std::exception&) {
    policy_.releaseOverdue();
    startThreadIfNeeded();
    ready_.notify_all();
  }
}

// Runs on a thread of its own until no slot is overdue.
void Executor::releaseOverdue() {
  while (true) {
    std::this_thread::sleep_for(kOverdue);
    std::lock_guard<std::mutex> lock(mutex_);
    if (policy_.releaseOverdue()) {
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

// Each thread that computes in parallel keeps an OpenMP team of its own. Once all teams together have more threads than
// there are cores, libgomp puts idle team members to sleep almost immediately, and waking them takes longer than many a
// parallel region: a 30 ms forward took 40 ms with one such team on the event loop.
void Executor::makeSequential() {
  computeSequentially();
  // Threads that libtorch starts itself inherit this until a run applies its own count again.
  std::lock_guard<std::mutex> lock(mutex_);
  ++numThreadsEpoch_;
}

int Executor::numThreads() {
  std::lock_guard<std::mutex> lock(mutex_);
  return numThreads_;
}

int Executor::idleCores() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::max(0, cores_ - numThreads_ * policy_.running());
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
  on_exit(exitWithoutDestructors, nullptr);
#endif
}

Executor::Waiting::Waiting(Reason reason) : reason_(reason), slot_(currentRunSlot()) {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  executor.policy_.beginWait(slot_.get(), reason_);
  executor.startThreadIfNeeded();
  executor.ready_.notify_one();
}

Executor::Waiting::~Waiting() {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  executor.policy_.endWait(slot_.get(), reason_, now());
}

void Executor::Waiting::checkForStall() const {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  executor.startThreadIfNeeded();  // again, in case the system refused one
  if (executor.queue_.empty() || executor.next() != executor.queue_.end()) return;
  if (!executor.policy_.relieveStall(now())) return;
  executor.startThreadIfNeeded();
  executor.ready_.notify_all();
}

}  // namespace lta
