#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <vector>

#include "node/environment.h"
#include "runtime/cancellation.h"
#include "runtime/executor.h"

namespace lta::node {

// A JavaScript function that a running model calls: on the event loop's thread, while the model's own thread waits for
// it. What the function returns is
//   nothing                    there is no value
//   [failure, value]           0 and a value, or an object that holds what it failed with (see Error::cause)
//   a function                 the value comes later: it is called as (settle), and settle(failure, value) is to be
//   called
//                              once. Where nobody can do that any more (settle was collected), the call fails.
// Can be destroyed on any thread.
class Callback {
 public:
  explicit Callback(Napi::Function function);
  ~Callback();
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;

  // Both run on the event loop's thread: the first makes the arguments, the second takes the value where there is one.
  using Arguments = std::function<std::vector<napi_value>(Napi::Env)>;
  using Take = std::function<void(Napi::Value)>;

  // Throws what `arguments` or `take` throw, ERR_HOOK_FAILED where the function throws or settles as failed, Cancelled
  // where that is requested meanwhile or the environment ends.
  // `what` tells whose place may be taken meanwhile.
  void call(Arguments arguments, Take take, const CancellationPtr& cancellation,
            Executor::Waiting::For what = Executor::Waiting::For::Dependency) const;

 private:
  std::shared_ptr<Channel> channel_;
  // Behind a pointer, so that it can outlive this object on its way to the event loop's thread.
  std::unique_ptr<Napi::FunctionReference> function_;
};

}  // namespace lta::node
