#include "runtime/run_scope.h"

#include <atomic>

#include "torch/dispatcher.h"

namespace lta {
namespace {

std::atomic<int64_t> participants{0};

struct Participant final : RunLocal {
  Participant(CancellationPtr participating, std::shared_ptr<const void> kept)
      : run(std::move(participating)), token(std::move(kept)) {
    ++participants;
  }
  ~Participant() override { --participants; }
  const CancellationPtr run;
  const std::shared_ptr<const void> token;
};

void checkCancellation(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  if (auto* run = Cancellation::current()) run->check();
  redispatchBelow(kRunKey, op, keys, stack);
}

}  // namespace

Cancellation* Cancellation::current() {
  const auto* part = runLocal<Participant>(kCancellationSlot);
  return part ? part->run.get() : nullptr;
}

RunScope::RunScope(CancellationPtr run, bool everyOperator, std::shared_ptr<const void> token)
    : info_(kCancellationSlot, std::make_shared<Participant>(run, std::move(token))) {
  if (everyOperator || run->watchesOperators()) key_.emplace(kRunKey);
}

int64_t RunScope::inFlight() { return participants; }

void registerRunScope() {
  kernelsUnder(kRunKey, "_").fallback(torch::CppFunction::makeFromBoxedFunction<&checkCancellation>());
}

}  // namespace lta
