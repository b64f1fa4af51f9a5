// Calls JavaScript functions from threads of the executor.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <vector>

#include "node/environment.h"
#include "runtime/cancellation.h"
#include "runtime/executor.h"

namespace lta::node {

// A JavaScript function, called on the event loop's thread while the calling thread blocks, or by that thread itself in
// a run that blocks it (see blocking.h). It returns
//   undefined         no value
//   [failure, value]  0 and a value, or an object that holds what was thrown (see Error::cause)
//   a function        the result is asynchronous: called with `settle`, which must be called once as
//                     settle(failure, value). If `settle` is collected uncalled, the call fails. So it does in a
//                     run that blocks the event loop.
// May be destroyed on any thread.
class Callback {
 public:
  explicit Callback(Napi::Function function);
  ~Callback();
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;

  // Both run on the event loop's thread: the first makes the arguments, the second consumes the value, if there is one.
  using Arguments = std::function<std::vector<napi_value>(Napi::Env)>;
  using Take = std::function<void(Napi::Value)>;

  // Throws what `arguments` or `take` throw; ERR_HOOK_FAILED if the function throws or settles with a failure;
  // Cancelled if the run is cancelled or the environment ends meanwhile.
  void call(Arguments arguments, Take take, const CancellationPtr& cancellation,
            Executor::Waiting::Reason reason = Executor::Waiting::Reason::Dependency) const;

 private:
  std::shared_ptr<Channel> channel_;
  // Behind a pointer, so that it can outlive this object on its way to the event loop's thread.
  std::unique_ptr<Napi::FunctionReference> function_;
};

}  // namespace lta::node
