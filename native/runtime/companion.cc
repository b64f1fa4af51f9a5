#include "runtime/companion.h"

#include <c10/util/thread_name.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "runtime/crew.h"
#include "runtime/deep_stack.h"
#include "runtime/executor.h"
#include "torch/threads.h"

namespace lta {

Companion& Companion::instance() {
  static Companion* companion = new Companion();
  return *companion;
}

bool Companion::isFree() {
  auto& executor = Executor::instance();
  if (!Executor::currentSlot()) return false;
  const auto idle = executor.idleCores();
  // With fewer, the run would wait at its end for work that its own threads would have done in less time.
  if (idle == 0 || 2 * idle < executor.numThreads()) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  return !waiting_;
}

Companion::JobPtr Companion::offer(std::function<void()> work) {
  auto job = std::make_shared<Job>();
  job->work = std::move(work);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_ || !startThread()) return nullptr;
    waiting_ = job;
  }
  ready_.notify_one();
  return job;
}

void Companion::finish(const JobPtr& job) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (waiting_ == job) {
    waiting_ = nullptr;
    lock.unlock();
    job->work();
    return;
  }
  done_.wait(lock, [&] { return job->done; });
}

bool Companion::startThread() noexcept {
  if (started_) return true;
  try {
    startOnDeepStack([this] { loop(); });
    started_ = true;
  } catch (const std::exception&) {
    // Then the run does its work itself.
  }
  return started_;
}

void Companion::loop() {
  c10::setThreadName("lta_companion");
  computeSequentially();
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    ready_.wait(lock, [&] { return waiting_ != nullptr; });
    auto job = std::exchange(waiting_, nullptr);
    lock.unlock();
    {
      auto work = std::move(job->work);
      const Crew::Scope crew(std::max(1, Executor::instance().idleCores()));
      work();
    }
    // What the work held is released before anyone goes on: a run's end is told of when nothing works for it any more.
    lock.lock();
    job->done = true;
    done_.notify_all();
    job = nullptr;
  }
}

}  // namespace lta
