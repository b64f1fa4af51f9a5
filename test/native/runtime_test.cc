#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

#include "check.h"
#include "runtime/devices.h"
#include "runtime/error.h"
#include "runtime/executor.h"

namespace {

class Latch {
 public:
  explicit Latch(int count) : count_(count) {}
  void down() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--count_ <= 0) done_.notify_all();
  }
  bool wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    return done_.wait_for(lock, std::chrono::seconds(20), [this] { return count_ <= 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  int count_;
};

lta::Error described(const std::string& text) {
  return lta::describe(std::make_exception_ptr(std::runtime_error(text)), "ERR_MODEL_RUN");
}

int threadsOfProcess() {
#if defined(__linux__)
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<int>(std::distance(begin(tasks), end(tasks)));
#else
  return 0;
#endif
}

}  // namespace

TEST("no more runs at once than allowed") {
  auto& executor = lta::Executor::instance();
  executor.setConcurrency(2);
  std::atomic<int> now{0};
  std::atomic<int> most{0};
  Latch done(20);
  for (int i = 0; i < 20; ++i) {
    executor.submit(
        [&] {
          const int here = ++now;
          int before = most;
          while (here > before && !most.compare_exchange_weak(before, here)) {
          }
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
          --now;
          done.down();
        },
        lta::Executor::Kind::Run);
  }
  EXPECT(done.wait());
  EXPECT(most == 2);
  executor.setConcurrency(1);
}

TEST("a run that waits lets another take its place; hundreds that wait take few threads, and give them back") {
  auto& executor = lta::Executor::instance();
  executor.setConcurrency(1);
  const int before = threadsOfProcess();
  Latch done(200);
  std::atomic<int> most{0};
  for (int i = 0; i < 200; ++i) {
    executor.submit(
        [&] {
          most = std::max<int>(most, threadsOfProcess());
          Latch inner(1);
          executor.submit([&] { inner.down(); }, lta::Executor::Kind::Urgent);
          {
            const lta::Executor::Waiting waiting;
            inner.wait();
          }
          done.down();
        },
        lta::Executor::Kind::Run);
  }
  EXPECT(done.wait());
  EXPECT(most <= before + 64);
  int left = 0;
  for (int i = 0; i < 1000 && (left = threadsOfProcess()) > before + 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT(left <= before + 1);
}

TEST("libtorch's message is what the interpreter wrapped; the rest is the native stack") {
  const auto error = described(
      "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, serialized code (most "
      "recent call last):\n  File \"code/x.py\", line 3, in forward\n    ~~~~ <--- HERE\n\nbuiltins.ValueError: two: "
      "lines\nhere\n");
  EXPECT(std::string(error.what()) == "two: lines\nhere");
  EXPECT(error.nativeStack().find("Traceback") != std::string::npos);
  EXPECT(std::string(described("plain").what()) == "plain");
}

TEST("an error of ours keeps its code, others get the one given") {
  const auto ours = std::make_exception_ptr(lta::Error("ERR_NO_ATTENTION", "none"));
  EXPECT(std::string(lta::describe(ours, "ERR_MODEL_RUN").code()) == "ERR_NO_ATTENTION");
  EXPECT(std::string(described("x").code()) == "ERR_MODEL_RUN");
}

TEST("devices: unknown names and missing ones are told apart") {
  EXPECT(lta::parseDevice("cpu").is_cpu());
  EXPECT_ERROR(lta::parseDevice("brain"), std::string("ERR_INVALID_ARGUMENT"));
  EXPECT_ERROR(lta::parseDevice("cuda:99"), std::string("ERR_DEVICE_UNAVAILABLE"));
}
