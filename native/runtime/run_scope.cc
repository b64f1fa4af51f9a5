#include "runtime/run_scope.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <atomic>

namespace lta {
namespace {

// The slot of ThreadLocalDebugInfo that carries the run: one that libtorch itself leaves alone in every supported
// release (hooks and the probe have the two that are meant for tests).
const c10::DebugInfoKind kInfo = c10::DebugInfoKind::PRODUCER_INFO;

std::atomic<int64_t> taking{0};

struct TakingPart final : c10::DebugInfoBase {
  TakingPart(CancellationPtr itsRun, std::shared_ptr<const void> itsToken)
      : run(std::move(itsRun)), token(std::move(itsToken)) {
    ++taking;
  }
  ~TakingPart() override { --taking; }
  const CancellationPtr run;
  const std::shared_ptr<const void> token;
};

void lookFirst(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  if (auto* run = Cancellation::current()) run->check();
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, RunScope::kKey), stack);
}

}  // namespace

Cancellation* Cancellation::current() {
  const auto* part = static_cast<TakingPart*>(c10::ThreadLocalDebugInfo::get(kInfo));
  return part ? part->run.get() : nullptr;
}

RunScope::RunScope(CancellationPtr run, bool everyOperator, std::shared_ptr<const void> token)
    : info_(kInfo, std::make_shared<TakingPart>(run, std::move(token))) {
  if (everyOperator || run->watchesOperators()) key_.emplace(kKey);
}

int64_t RunScope::underWay() { return taking; }

void registerRunScope() {
  // Never destroyed: threads may run models while the process ends.
  static auto* const library = new torch::Library(torch::Library::IMPL, "_", RunScope::kKey, __FILE__, __LINE__);
  library->fallback(torch::CppFunction::makeFromBoxedFunction<&lookFirst>());
}

}  // namespace lta
