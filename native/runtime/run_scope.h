// Makes a thread work for a run, and checks its cancellation before operators. Knows nothing of models or hooks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "runtime/cancellation.h"
#include "runtime/operator_observer.h"
#include "torch/dispatch_keys.h"
#include "torch/run_local.h"

namespace lta {

// While one lives, the calling thread works for a run, as do threads that the model forks meanwhile and those of a
// backward pass. If the run may have to stop between operators, every operator goes through a boxed fallback that
// checks the cancellation first. Its dispatch key, used by nothing else, is included in a thread's dispatch only then,
// so other runs pay nothing. It lies below the probe's key and above all of libtorch's, and redispatches unchanged:
// results stay bit-identical.
class RunScope {
 public:
  // `everyOperator`: check before operators even if the run itself doesn't ask for it. `token` lives until no thread
  // works for the run any more, including forked tasks that nobody awaits.
  explicit RunScope(CancellationPtr run, bool everyOperator = false, std::shared_ptr<const void> token = nullptr);
  // The calling thread goes on with the run that it takes part in, if any, and the observer is told of each operator.
  explicit RunScope(std::shared_ptr<OperatorObserver> observer);
  RunScope(const RunScope&) = delete;
  RunScope& operator=(const RunScope&) = delete;

  // Whether the calling thread works for a run.
  static bool isOpen();
  // Whether an observer is told of the calling thread's operators.
  static bool isObserved();
  // Runs that some thread may still work for.
  static int64_t inFlight();

 private:
  RunLocalScope info_;
  std::optional<IncludeDispatchKey> key_;
};

// Registers the fallback, once per process (see registration.h).
void registerRunScope();

// Runs `body` as part of `run`; throws the reason the run was stopped with, if it was.
template <typename Body>
auto inRun(const CancellationPtr& run, bool everyOperator, std::shared_ptr<const void> token, Body body)
    -> decltype(body()) {
  const RunScope scope(run, everyOperator, std::move(token));
  const auto rethrowReason = [&] {
    if (const auto reason = run->stopped()) std::rethrow_exception(reason);
  };
  try {
    run->check();
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      rethrowReason();
    } else {
      auto result = body();
      rethrowReason();
      return result;
    }
  } catch (const Cancelled&) {
    run->check();  // throws the actual reason: what waits for JavaScript knows none
    throw;
  } catch (...) {
    rethrowReason();
    throw;
  }
}

}  // namespace lta
