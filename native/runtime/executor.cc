#include "runtime/executor.h"

#include <ATen/Parallel.h>

#include <unistd.h>
#include <algorithm>
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

// Enough for hooks that wait for other models in turn, and few enough for any machine.
constexpr int kMostWaiting = 32;
// How long all must have waited for the limit to be doubled.
constexpr auto kLong = std::chrono::milliseconds(300);
// How long one that waits for room keeps other runs from beginning while nothing goes on.
constexpr auto kVeryLong = std::chrono::seconds(5);
// How many tasks may be at work beyond the limit because nobody waits for them any more, and how long each further one
// keeps its place.
constexpr int kMostAbandoned = 8;
constexpr auto kOverdue = std::chrono::milliseconds(500);

thread_local std::shared_ptr<Place> ownPlace;

// The place that the calling thread works for: its own, or that of the run that forked it.
std::shared_ptr<Place> workedFor() {
  if (ownPlace) return ownPlace;
  auto* const run = Cancellation::current();
  return run ? run->place() : nullptr;
}

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
Executor::Executor() {
  const int cores = std::max(1, at::get_num_threads());
  concurrency_ = std::clamp(cores / 4, 1, 8);
  numThreads_ = std::max(1, cores / concurrency_);
  mostWaiting_ = kMostWaiting;
}

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

std::shared_ptr<Place> Executor::here() { return ownPlace; }

// The first task that may begin now.
std::deque<Executor::Task>::iterator Executor::next() {
  if (closed_ || running_ >= concurrency_) return queue_.end();
  if (waiting_ < mostWaiting_ && running_ + forRoom_ - beyond_ < concurrency_) return queue_.begin();
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

template <typename Change>
void Executor::change(Place& place, Change how) {
  running_ -= place.occupied();
  away_ -= place.away();
  how(place);
  running_ += place.occupied();
  away_ += place.away();
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
    ownPlace = std::make_shared<Place>();
    change(*ownPlace, [](Place& place) { place.running = true; });
    goesOn();
    startThreadIfNeeded();
    const bool apply = epoch != numThreadsEpoch_;
    epoch = numThreadsEpoch_;
    const int count = numThreads_;
    lock.unlock();
    if (apply) at::set_num_threads(count);
    task();
    task = nullptr;  // what the task held is released before the thread waits
    lock.lock();
    abandoned_ -= ownPlace->abandoned;
    change(*ownPlace, [](Place& place) { place.running = false; });
    ownPlace = nullptr;
    goesOn();
    // Took the place of one that waited or was abandoned, which is back. A thread that stays keeps its team (see
    // keepSequential).
    if (threads_ - away_ > concurrency_) break;
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

void Executor::giveUp(Place& place) {
  change(place, [](Place& given) { given.abandoned = true; });
  ++abandoned_;
  startThreadIfNeeded();
  ready_.notify_all();
}

void Executor::abandon(const std::shared_ptr<Place>& place) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!place->running || place->abandoned) return;
  if (abandoned_ < kMostAbandoned) return giveUp(*place);
  overdue_.push_back(place);
  if (overdue_.size() > 1) return;
  try {
    std::thread([this] { giveUpOverdue(); }).detach();
  } catch (const std::exception&) {
    overdue_.clear();
    giveUp(*place);
  }
}

// On a thread of its own, for as long as there are some: one after the other.
void Executor::giveUpOverdue() {
  while (true) {
    std::this_thread::sleep_for(kOverdue);
    std::lock_guard<std::mutex> lock(mutex_);
    std::shared_ptr<Place> place;
    while (!overdue_.empty() && !place) {
      place = overdue_.front().lock();
      if (place && (!place->running || place->abandoned)) place = nullptr;
      if (!place) overdue_.pop_front();
    }
    if (place) {
      overdue_.pop_front();
      giveUp(*place);
    }
    if (overdue_.empty()) return;
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
  concurrency_ = count;
  startThreadIfNeeded();
  ready_.notify_all();
}

int Executor::concurrency() {
  std::lock_guard<std::mutex> lock(mutex_);
  return concurrency_;
}

bool Executor::close() {
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  return running_ + away_ > 0 || RunScope::inFlight() > 0;
}

void Executor::watchExit() {
#if defined(__linux__)
  on_exit(leaveWhileBusy, nullptr);
#endif
}

Executor::Waiting::Waiting(For what) : what_(what), place_(workedFor()) {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  if (place_) executor.change(*place_, [](Place& place) { ++place.waits; });
  ++executor.waiting_;
  if (what_ == For::Room) ++executor.forRoom_;
  executor.startThreadIfNeeded();
  executor.ready_.notify_one();
}

Executor::Waiting::~Waiting() {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  if (--executor.waiting_ == 0) executor.mostWaiting_ = kMostWaiting;
  if (what_ == For::Room && --executor.forRoom_ < executor.beyond_) executor.beyond_ = executor.forRoom_;
  // May pass the limit for a moment: whoever waited goes on at once.
  if (place_) executor.change(*place_, [](Place& place) { --place.waits; });
  executor.goesOn();
}

void Executor::Waiting::look() const {
  auto& executor = Executor::instance();
  std::lock_guard<std::mutex> lock(executor.mutex_);
  executor.startThreadIfNeeded();  // once more, where the system refused one
  if (executor.queue_.empty() || executor.next() != executor.queue_.end()) return;
  const auto still = std::chrono::steady_clock::now() - executor.lastProgress_;
  if (executor.waiting_ >= executor.mostWaiting_ && still > kLong) {
    executor.mostWaiting_ *= 2;
  } else if (executor.beyond_ < executor.forRoom_ && still > kVeryLong) {
    ++executor.beyond_;
  } else {
    return;
  }
  executor.goesOn();
  executor.startThreadIfNeeded();
  executor.ready_.notify_all();
}

}  // namespace lta
