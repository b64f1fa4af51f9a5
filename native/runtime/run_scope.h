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

// While one lives, the calling thread takes part in a run, and so do the threads that the model forks meanwhile, and
// those of a backward pass. Where the run may have to stop between two operators, every operator passes a fallback that
// looks at the cancellation first: registered under a dispatch key that nothing else uses, which takes part in a
// thread's dispatch only then, so that it costs other runs nothing. It lies below the probe's key and above all of
// libtorch's, and hands on what it was given: the same kernels compute the same bits.
class RunScope {
 public:
  // `everyOperator`: also where the run itself has no reason to look between operators. `token` is kept until nothing
  // takes part in the run any more, also what it forked and nobody awaited.
  explicit RunScope(CancellationPtr run, bool everyOperator = false, std::shared_ptr<const void> token = nullptr);
  // The calling thread goes on with the run that it takes part in, if any, and the observer is told of each operator.
  explicit RunScope(std::shared_ptr<OperatorObserver> observer);
  RunScope(const RunScope&) = delete;
  RunScope& operator=(const RunScope&) = delete;

  // How many runs there are that some thread may take part in.
  static int64_t inFlight();

 private:
  RunLocalScope info_;
  std::optional<IncludeDispatchKey> key_;
};

// Registers the fallback, once a process (see registration.h).
void registerRunScope();

// Runs `body` as a part of `run` and ends with what the run was stopped with, where it was.
template <typename Body>
auto inRun(const CancellationPtr& run, bool everyOperator, std::shared_ptr<const void> token, Body body)
    -> decltype(body()) {
  const RunScope scope(run, everyOperator, std::move(token));
  const auto stopped = [&] {
    if (const auto reason = run->stopped()) std::rethrow_exception(reason);
  };
  try {
    run->check();
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      stopped();
    } else {
      auto result = body();
      stopped();
      return result;
    }
  } catch (const Cancelled&) {
    run->check();  // what waited for JavaScript doesn't know what it was stopped for
    throw;
  } catch (...) {
    stopped();
    throw;
  }
}

}  // namespace lta
