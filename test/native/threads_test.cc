#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <array>
#include <atomic>
#include <thread>

#include "check.h"
#include "fixtures.h"
#include "hooks/recorder.h"
#include "runtime/executor.h"
#include "script/load.h"

// Concurrency, above all for the sanitizers: cancellation, hooks and captures in forked tasks, hooks added and removed
// during runs.

namespace {

std::shared_ptr<lta::script::ScriptModule> load(const char* name) {
  return lta::script::loadFile(fixtures::path(std::string("models/") + name), {});
}

std::vector<c10::IValue> inputs() { return {at::ones({2, 6, 16})}; }

// Runs `body` with each number on a thread of its own.
void onThreads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (auto& thread : threads) thread.join();
}

// A hook that blocks, as one in JavaScript does.
class WaitingHook final : public lta::Hook {
 public:
  WaitingHook() : Hook(lta::HookKind::Forward) {}
  std::optional<c10::IValue> onOutput(const lta::ModuleCall&, const std::vector<c10::IValue>&, const c10::IValue&,
                                      const lta::CancellationPtr&) override {
    const lta::Executor::Waiting waiting;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return std::nullopt;
  }
};

}  // namespace

TEST("runs cancelled by another thread stop or finish, and concurrent runs stay bit-identical") {
  const auto model = load("hand_sdpa_script.pt");
  for (int i = 0; i < 3; ++i) model->run({inputs()}, {});
  const auto expected = model->run({inputs()}, {}).toTensor();
  std::atomic<int> wrong{0};
  onThreads(4, [&](int thread) {
    for (int i = 0; i < 10; ++i) {
      lta::engine::RunOptions options;
      options.cancellation = std::make_shared<lta::Cancellation>();
      std::thread canceller;
      if (thread % 2) canceller = std::thread([cancellation = options.cancellation] { cancellation->request(); });
      try {
        if (!model->run({inputs()}, options).toTensor().equal(expected)) ++wrong;
      } catch (const lta::Cancelled&) {
        if (thread % 2 == 0) ++wrong;
      }
      if (canceller.joinable()) canceller.join();
    }
  });
  EXPECT(wrong == 0);
}

TEST("hooks fire once in forked tasks, also if they block") {
  const auto model = load("forked.pt");
  const std::array hooks{std::make_shared<WaitingHook>(), std::make_shared<WaitingHook>()};
  model->addHook("left", hooks[0]);
  model->addHook("right", hooks[1]);
  onThreads(3, [&](int) {
    for (int i = 0; i < 4; ++i) model->run({inputs()}, {});
  });
  EXPECT(hooks[0]->calls() == 12 && hooks[1]->calls() == 12);
}

TEST("captures see the attentions of forked tasks, several captures at once") {
  const auto model = load("forked.pt");
  std::atomic<int> wrong{0};
  onThreads(3, [&](int) {
    const c10::NoGradGuard noGrad;
    for (int i = 0; i < 4; ++i) {
      if (model->capture({inputs()}, {}, {}).attentions.size() != 2) ++wrong;
    }
  });
  EXPECT(wrong == 0);
}

TEST("hooks are added and removed while runs are in flight") {
  const auto model = load("hand_sdpa_script.pt");
  std::atomic<bool> done{false};
  std::thread changing([&] {
    while (!done) {
      const auto recorder = std::make_shared<lta::Recorder>(lta::HookKind::Forward);
      model->addHook("blocks.0", recorder);
      recorder->last();
      model->removeHook("blocks.0", recorder);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  onThreads(2, [&](int) {
    for (int i = 0; i < 20; ++i) model->run({inputs()}, {});
  });
  done = true;
  changing.join();
}

TEST("names and parameters are read while a model is moved") {
  const auto model = load("two_of_a_class_script.pt");
  onThreads(3, [&](int thread) {
    for (int i = 0; i < 10; ++i) {
      if (thread == 0)
        model->to(c10::Device(c10::DeviceType::CPU), [](const std::function<void()>& exchange) { exchange(); });
      if (thread == 1) model->stateDict();
      if (thread == 2) model->parameters();
    }
  });
}

TEST("the concurrency changes while runs are submitted") {
  auto& executor = lta::Executor::instance();
  std::atomic<int> ended{0};
  constexpr int kRuns = 100;
  for (int i = 0; i < kRuns; ++i) {
    executor.setConcurrency(1 + i % 4);
    executor.submit(
        [&] {
          const lta::Executor::Waiting waiting;
          waiting.checkForStall();
          ++ended;
        },
        i % 3 ? lta::Executor::Kind::Run : lta::Executor::Kind::Urgent);
  }
  for (int i = 0; i < 2000 && ended < kRuns; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT(ended == kRuns);
  executor.setConcurrency(1);
}
