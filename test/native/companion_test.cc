#include "runtime/companion.h"

#include <ATen/Parallel.h>

#include <atomic>
#include <future>
#include <thread>

#include "check.h"
#include "runtime/executor.h"

namespace {

// Runs `body` as a run of the executor, with `threads` of its own.
template <typename Body>
void asRun(int threads, Body body) {
  auto& executor = lta::Executor::instance();
  const auto before = executor.numThreads();
  executor.setNumThreads(threads);
  std::promise<void> done;
  executor.submit(
      [&] {
        try {
          body();
          done.set_value();
        } catch (...) {
          done.set_exception(std::current_exception());
        }
      },
      lta::Executor::Kind::Run);
  auto result = done.get_future();
  result.wait();
  executor.setNumThreads(before);
  result.get();
}

int cores() {
  lta::Executor::instance();
  int count = 1;
  asRun(1, [&] { count = 1 + lta::Executor::instance().idleCores(); });
  return count;
}

}  // namespace

TEST("cores that runs leave idle are those beyond their threads") {
  auto& executor = lta::Executor::instance();
  const auto all = cores();
  EXPECT(executor.idleCores() <= all);
  asRun(all, [&] { EXPECT(executor.idleCores() == 0); });
  asRun(all + 3, [&] { EXPECT(executor.idleCores() == 0); });
}

TEST("a companion takes nothing of threads that run no model, or of runs that leave no core idle") {
  auto& companion = lta::Companion::instance();
  EXPECT(!companion.isFree());
  asRun(cores(), [&] { EXPECT(!companion.isFree()); });
}

TEST("a companion works while a run goes on, sequentially but for its crew") {
  if (cores() < 2) return;
  auto& companion = lta::Companion::instance();
  asRun(1, [&] {
    EXPECT(companion.isFree());
    std::promise<void> began;
    std::atomic<bool> goesOn{false}, worked{false};
    std::thread::id thread;
    int threads = 0;
    const auto job = companion.offer([&] {
      began.set_value();
      while (!goesOn) std::this_thread::yield();
      thread = std::this_thread::get_id();
      threads = at::get_num_threads();
      worked = true;
    });
    EXPECT(job);
    began.get_future().wait();
    EXPECT(!worked);
    goesOn = true;
    companion.finish(job);
    EXPECT(worked);
    EXPECT(thread != std::this_thread::get_id());
    EXPECT(threads == 1);
    companion.finish(job);  // again: it is done
  });
}

TEST("what a companion hasn't begun is done by the run that needs it, and what waits is one job") {
  if (cores() < 2) return;
  auto& companion = lta::Companion::instance();
  asRun(1, [&] {
    std::promise<void> began, end;
    const auto first = companion.offer([&] {
      began.set_value();
      end.get_future().wait();
    });
    began.get_future().wait();
    std::thread::id thread;
    const auto second = companion.offer([&] { thread = std::this_thread::get_id(); });
    EXPECT(second);
    EXPECT(!companion.isFree());
    EXPECT(!companion.offer([] {}));
    companion.finish(second);
    EXPECT(thread == std::this_thread::get_id());
    EXPECT(companion.isFree());
    end.set_value();
    companion.finish(first);
  });
}

TEST("what a job holds is released before it counts as done") {
  if (cores() < 2) return;
  asRun(1, [] {
    for (int i = 0; i < 200; ++i) {
      auto held = std::make_shared<int>(1);
      const std::weak_ptr<int> left = held;
      std::promise<void> began;
      const auto job = lta::Companion::instance().offer([held, &began] { began.set_value(); });
      held = nullptr;
      EXPECT(job);
      began.get_future().wait();
      lta::Companion::instance().finish(job);
      EXPECT(left.expired());
    }
  });
}
