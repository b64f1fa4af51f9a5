#include "runtime/run_scope.h"

#include <atomic>

#include "torch/dispatcher.h"
#include "torch/own_computation.h"

namespace lta {
namespace {

std::atomic<int64_t> participants{0};

struct Participant final : RunLocal {
  Participant(CancellationPtr participating, std::shared_ptr<const void> kept,
              std::shared_ptr<OperatorObserver> observing)
      : run(std::move(participating)), token(std::move(kept)), observer(std::move(observing)) {
    ++participants;
  }
  ~Participant() override { --participants; }
  const CancellationPtr run;
  const std::shared_ptr<const void> token;
  const std::shared_ptr<OperatorObserver> observer;
};

const Participant* participant() { return runLocal<Participant>(kCancellationSlot); }

std::shared_ptr<Participant> observed(std::shared_ptr<OperatorObserver> observer) {
  const auto* const part = participant();
  if (!part) return std::make_shared<Participant>(nullptr, nullptr, std::move(observer));
  return std::make_shared<Participant>(part->run, part->token, std::move(observer));
}

void eachOperator(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  const auto* const part = participant();
  if (part && part->run) part->run->check();
  if (!part || !part->observer || ProbeSuspended::now()) return redispatchBelow(kRunKey, op, keys, stack);
  auto* const observer = part->observer.get();
  {
    const ProbeSuspended inside;
    redispatchBelow(kRunKey, op, keys, stack);
  }
  observer->onOperator(op, *stack);
}

}  // namespace

Cancellation* Cancellation::current() {
  const auto* const part = participant();
  return part ? part->run.get() : nullptr;
}

RunScope::RunScope(CancellationPtr run, bool everyOperator, std::shared_ptr<const void> token)
    : info_(kCancellationSlot, std::make_shared<Participant>(run, std::move(token), nullptr)) {
  if (everyOperator || run->watchesOperators()) key_.emplace(kRunKey);
}

RunScope::RunScope(std::shared_ptr<OperatorObserver> observer)
    : info_(kCancellationSlot, observed(std::move(observer))), key_(std::in_place, kRunKey) {}

bool RunScope::isOpen() {
  const auto* const part = participant();
  return part && part->run;
}

bool RunScope::isObserved() {
  const auto* const part = participant();
  return part && part->observer;
}

int64_t RunScope::inFlight() { return participants; }

void registerRunScope() {
  kernelsUnder(kRunKey, "_").fallback(torch::CppFunction::makeFromBoxedFunction<&eachOperator>());
}

}  // namespace lta
