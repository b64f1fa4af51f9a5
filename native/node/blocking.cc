#include "node/blocking.h"

#include <utility>

#include "runtime/run_scope.h"
#include "runtime/switched_stack.h"
#include "torch/thread_state.h"

namespace lta::node {
namespace {

// The state that the thread had before the run that it computes for; null outside of such runs.
thread_local const ThreadState* stateOutside = nullptr;

class InsideScope {
 public:
  explicit InsideScope(const ThreadState* outside) : before_(std::exchange(stateOutside, outside)) {}
  ~InsideScope() { stateOutside = before_; }
  InsideScope(const InsideScope&) = delete;
  InsideScope& operator=(const InsideScope&) = delete;

 private:
  const ThreadState* const before_;
};

}  // namespace

void runBlocking(const std::function<void()>& work, TaskOptions options) {
  auto& run = options.cancellation;
  if (!run) run = std::make_shared<Cancellation>(nullptr, RunLimits{}, /*mayBeRequested=*/false);
  run->blockEventLoop();
  run->begin();
  const ThreadState outside;
  const InsideScope inside(&outside);
  onSwitchedStack([&] { inRun(run, /*everyOperator=*/false, std::move(options.token), work); });
}

bool inBlockingRun() { return stateOutside != nullptr; }

void outsideBlockingRun(const std::function<void()>& body) {
  const ThreadStateScope state(*stateOutside);
  const InsideScope outside(nullptr);
  onOwnStack(body);
}

}  // namespace lta::node
