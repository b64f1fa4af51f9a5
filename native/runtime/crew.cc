#include "runtime/crew.h"

#include <c10/util/thread_name.h>

#include <thread>
#include <utility>

#include "torch/threads.h"

namespace lta {
namespace {

thread_local int64_t threadsOfCaller = 0;

}  // namespace

Crew& Crew::instance() {
  static Crew* crew = new Crew();
  return *crew;
}

Crew::Scope::Scope(int64_t threads) { threadsOfCaller = threads; }
Crew::Scope::~Scope() { threadsOfCaller = 0; }

int64_t Crew::threadsHere() { return threadsOfCaller; }

void Crew::run(int64_t members, const std::function<void(int64_t)>& work) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    startThreads(members - 1);
    work_ = &work;
    next_ = 1;
    members_ = members;
    failure_ = nullptr;
  }
  ready_.notify_all();
  std::exception_ptr own;
  try {
    work(0);
  } catch (...) {
    own = std::current_exception();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  work_ = nullptr;
  left_.wait(lock, [&] { return inside_ == 0; });
  const auto failure = own ? own : std::exchange(failure_, nullptr);
  lock.unlock();
  if (failure) std::rethrow_exception(failure);
}

// Where the system refuses a thread, the others do its share.
void Crew::startThreads(int64_t members) noexcept {
  try {
    for (; threads_ < members; ++threads_) std::thread([this] { loop(); }).detach();
  } catch (const std::exception&) {
  }
}

void Crew::loop() {
  c10::setThreadName("lta_crew");
  computeSequentially();
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    ready_.wait(lock, [&] { return work_ && next_ < members_; });
    const auto& work = *work_;
    const auto member = next_++;
    ++inside_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      work(member);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure && !failure_) failure_ = std::move(failure);
    if (--inside_ == 0) left_.notify_one();
  }
}

}  // namespace lta
