#include <ATen/ATen.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#if defined(__linux__)
#include <unistd.h>
#endif

#include "check.h"
#include "runtime/activity.h"
#include "runtime/available_memory.h"
#include "runtime/cancellation.h"
#include "runtime/devices.h"
#include "runtime/error.h"
#include "runtime/executor.h"
#include "runtime/memory_budget.h"
#include "runtime/recycled_memory.h"
#include "runtime/run_allocator.h"
#include "runtime/run_scope.h"
#include "runtime/scratch.h"
#include "runtime/shared_tasks.h"

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

TEST("concurrent runs never exceed the concurrency") {
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

TEST("a blocked run yields its slot; hundreds of blocked runs use few threads, which end afterwards") {
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

TEST("our own errors keep their code, others get the given one") {
  const auto ours = std::make_exception_ptr(lta::Error("ERR_NO_ATTENTION", "none"));
  EXPECT(std::string(lta::describe(ours, "ERR_MODEL_RUN").code()) == "ERR_NO_ATTENTION");
  EXPECT(std::string(described("x").code()) == "ERR_MODEL_RUN");
}

TEST("devices: malformed names and unavailable devices have different codes") {
  EXPECT(lta::parseDevice("cpu").is_cpu());
  EXPECT_ERROR(lta::parseDevice("brain"), std::string("ERR_INVALID_ARGUMENT"));
  EXPECT_ERROR(lta::parseDevice("cuda:99"), std::string("ERR_DEVICE_UNAVAILABLE"));
}

TEST("two forked tasks of one run block at a time: its slot is yielded once, and taken back once") {
  auto& executor = lta::Executor::instance();
  executor.setConcurrency(1);
  std::atomic<int> now{0}, most{0};
  Latch done(4), waits(2), resume(1), forkedDone(2);
  const auto run = std::make_shared<lta::Cancellation>();
  const auto counted = [&] {
    const int here = ++now;
    most = std::max<int>(most, here);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    --now;
    done.down();
  };
  executor.submit(
      [&] {
        run->begin(lta::Executor::currentSlot());
        const lta::RunScope scope(run);
        const at::ThreadLocalState state;
        const auto forked = [&] {
          const at::ThreadLocalStateGuard guard(state);
          const lta::Executor::Waiting waiting;
          waits.down();
          resume.wait();
          forkedDone.down();
        };
        std::thread one(forked), other(forked);
        waits.wait();
        for (int i = 0; i < 3; ++i) executor.submit(counted, lta::Executor::Kind::Run);
        std::this_thread::sleep_for(std::chrono::milliseconds(60));
        resume.down();
        one.join();
        other.join();
        counted();
      },
      lta::Executor::Kind::Run);
  EXPECT(done.wait());
  EXPECT(most <= 2);  // the run that used the yielded slot may still be finishing
  // The counts are balanced: again one at a time.
  most = 0;
  Latch after(10);
  for (int i = 0; i < 10; ++i) {
    executor.submit(
        [&] {
          most = std::max<int>(most, ++now);
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          --now;
          after.down();
        },
        lta::Executor::Kind::Run);
  }
  EXPECT(after.wait());
  EXPECT(most == 1);
}

TEST("abandoned tasks release their slots, however many there are") {
  auto& executor = lta::Executor::instance();
  executor.setConcurrency(1);
  constexpr int kCount = 12;
  Latch over(1), ended(kCount), done(1);
  for (int i = 0; i < kCount; ++i) {
    const auto run = std::make_shared<lta::Cancellation>();
    Latch begun(1);
    executor.submit(
        [&, run] {
          run->begin(lta::Executor::currentSlot());
          begun.down();
          over.wait();
          ended.down();
        },
        lta::Executor::Kind::Run);
    EXPECT(begun.wait());
    run->request();
  }
  executor.submit([&] { done.down(); }, lta::Executor::Kind::Run);
  EXPECT(done.wait());
  over.down();
  EXPECT(ended.wait());
}

TEST("a run is stopped between two operators, and keeps what stopped it") {
  const auto run =
      std::make_shared<lta::Cancellation>(nullptr, lta::RunLimits{std::chrono::milliseconds(20), {}}, false);
  run->begin();
  const auto x = at::ones({4, 4});
  EXPECT_ERROR(lta::inRun(run, false, nullptr,
                          [&] {
                            for (auto y = x;;) y = y * 2;
                          }),
               std::string("ERR_TIME_LIMIT"));
  EXPECT(run->stopped());
  EXPECT(lta::Cancellation::current() == nullptr && lta::RunScope::inFlight() == 0);
  EXPECT(at::equal(x * 2, x + x));
}

TEST("operators behind the cancellation check are bit-identical, forward and backward") {
  const auto compute = [] {
    at::manual_seed(3);
    auto x = at::randn({8, 16}).requires_grad_();
    const auto y = at::layer_norm(at::linear(x, at::randn({16, 16})).relu(), {16}).softmax(-1);
    const auto z = at::cat(at::split(y.view({4, 2, 16}), 2), 1).transpose(0, 1).contiguous();
    z.mul(z).sum().backward();
    return std::make_pair(z.detach(), x.grad());
  };
  const auto plain = compute();
  const auto run = std::make_shared<lta::Cancellation>();
  const auto watched = lta::inRun(run, true, nullptr, compute);
  EXPECT(at::equal(plain.first, watched.first) && at::equal(plain.second, watched.second));
}

TEST("memory of a run is charged until it is freed, and refused before it is allocated") {
  lta::installRunAllocator();
  const auto run = std::make_shared<lta::Cancellation>(nullptr, lta::RunLimits{{}, 100'000}, false);
  run->begin();
  at::Tensor kept;
  lta::inRun(run, false, nullptr, [&] {
    kept = at::ones({10'000});
    for (int i = 0; i < 100; ++i) at::ones({10'000});
  });
  EXPECT(run->memory()->held() >= 40'000 && run->memory()->held() < 50'000);
  at::ones({1'000'000});  // outside of a run
  kept.resize_({12'000});
  EXPECT_ERROR(lta::inRun(run, false, nullptr, [] { at::ones({30'000}); }), std::string("ERR_MEMORY_LIMIT"));
  std::thread([&] { kept = at::Tensor(); }).join();
  EXPECT(run->memory()->held() == 0);
}

TEST("large blocks are used again, by length, and go back when they are too many, too old or idle") {
  constexpr size_t kBytes = lta::RecycledMemory::kLarge;
  lta::RecycledMemory memory(4 * kBytes);
  auto* const first = memory.take(kBytes);
  auto* const second = memory.take(kBytes - 1);
  EXPECT(first != second && memory.idleBytes() == 0);
  EXPECT(memory.give(first) && !memory.give(first));
  EXPECT(memory.take(kBytes) == first);
  int other = 0;
  EXPECT(!memory.give(&other));
  EXPECT(memory.give(first) && memory.give(second) && memory.idleBytes() == 2 * kBytes);
  auto* const large = memory.take(3 * kBytes);
  EXPECT(memory.keeps(4 * kBytes) && !memory.keeps(4 * kBytes + 1));
  // The oldest goes.
  EXPECT(memory.give(large) && memory.idleBytes() == 4 * kBytes);
  EXPECT(memory.take(kBytes) == second && memory.give(second));
  // A longer one serves for less, if not for too little.
  EXPECT(memory.take(2 * kBytes) == large && memory.give(large));
  for (int i = 0; i <= 10'000; ++i) memory.give(memory.take(kBytes));
  EXPECT(memory.idleBytes() == kBytes);
  std::thread([&] { memory.release(); }).join();
  EXPECT(memory.idleBytes() == 0);

  lta::RecycledMemory forgetful(4 * kBytes, std::chrono::milliseconds(20));
  forgetful.give(forgetful.take(kBytes));
  for (int i = 0; i < 500 && forgetful.idleBytes() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT(forgetful.idleBytes() == 0);
}

TEST("threads that take and give large blocks never share one") {
  lta::RecycledMemory memory(2 * lta::RecycledMemory::kLarge, std::chrono::milliseconds(1));
  std::atomic<bool> shared = false;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 500; ++i) {
        auto* const block =
            static_cast<volatile int*>(memory.take(lta::RecycledMemory::kLarge + static_cast<size_t>(i % 3) * 100'000));
        *block = thread;
        std::this_thread::yield();
        if (*block != thread) shared = true;
        memory.give(const_cast<int*>(block));
        if (i % 100 == thread) memory.release();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT(!shared);
}

TEST("large tensors of runs have recycled memory, whoever frees them; others don't") {
  lta::installRunAllocator();
  auto& memory = lta::RecycledMemory::instance();
  memory.release();
  constexpr int64_t kCount = 100'000;
  constexpr size_t kLength = 7 * 64 * 1024;
  at::ones({kCount});
  EXPECT(memory.idleBytes() == 0);
  for (const auto limit : {std::optional<int64_t>(), std::optional<int64_t>(10'000'000)}) {
    const auto run = std::make_shared<lta::Cancellation>(nullptr, lta::RunLimits{{}, limit}, false);
    run->begin();
    at::Tensor kept;
    lta::inRun(run, false, nullptr, [&] { kept = at::ones({kCount}); });
    const void* const address = kept.data_ptr();
    std::thread([&] { kept = at::Tensor(); }).join();
    EXPECT(memory.idleBytes() == kLength);
    lta::inRun(run, false, nullptr, [&] {
      EXPECT(at::zeros({kCount}).data_ptr() == address);
      auto* const allocator = c10::GetAllocator(c10::kCPU);
      auto* const raw = allocator->raw_allocate(kCount * sizeof(float));
      EXPECT(raw == address);
      allocator->raw_deallocate(raw);
    });
    if (limit) EXPECT(run->memory()->held() == 0);
    memory.release();
  }
}

TEST("limits of control groups, of both versions, are respected") {
  namespace fs = std::filesystem;
  const auto root = fs::temp_directory_path() / ("lta-groups-" + std::to_string(::getpid()));
  const auto write = [&](const std::string& file, const std::string& text) {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  };
  write("a/b/memory.max", "max\n");
  write("a/memory.max", "1000000\n");
  write("memory/x/memory.limit_in_bytes", "2000\n");
  write("memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT(lta::memoryLimitOfGroups("0::/a/b\n", root.string()) == 1000000);
  EXPECT(lta::memoryLimitOfGroups("4:cpu,memory:/x\n0::/\n", root.string()) == 2000);
  EXPECT(lta::memoryLimitOfGroups("0::/elsewhere\nnonsense\n", root.string()) == UINT64_MAX);
  EXPECT(lta::memoryLimitOfGroups("", "/nowhere") == UINT64_MAX);
  EXPECT(lta::availableMemory() > 0);
  fs::remove_all(root);
}

TEST("scratch memory is released, also that of another thread; memory in use stays") {
  lta::Scratch<float> scratch;
  {
    const lta::Scratch<float>::Use use(scratch, 100);
    use.data()[99] = 5;
    std::thread([] { lta::ScratchBase::releaseAll(); }).join();
    EXPECT(use.data()[99] == 5);
    const lta::Scratch<float>::Use second(scratch, 10);
    EXPECT(second.data() != use.data());
  }
  const lta::Scratch<float>::Use again(scratch, 10);
  EXPECT(again.data()[9] == 0);
}

TEST("each task of a shared loop runs once, whoever is done first, and what one throws is thrown") {
  for (const int64_t count : {0, 1, 2, 7, 100}) {
    for (const int64_t threads : {1, 2, 3, 8}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      lta::shareTasks(count, threads, [&](int64_t task) {
        // The first share takes longest.
        if (task < 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        ++runs[static_cast<size_t>(task)];
      });
      EXPECT(std::all_of(runs.begin(), runs.end(), [](const auto& each) { return each == 1; }));
    }
  }
  bool failed = false;
  try {
    lta::shareTasks(10, 2, [](int64_t task) {
      if (task == 3) throw std::runtime_error("three");
    });
  } catch (const std::runtime_error& error) {
    failed = std::string(error.what()) == "three";
  }
  EXPECT(failed);
}

TEST("activity settles when its last token is dropped") {
  const auto activity = std::make_shared<lta::Activity>();
  int settled = 0;
  activity->whenSettled([&] { ++settled; });
  EXPECT(settled == 1);
  auto one = activity->begin(), other = activity->begin();
  activity->whenSettled([&] { ++settled; });
  one = nullptr;
  EXPECT(settled == 1);
  other = nullptr;
  EXPECT(settled == 2);
}
