// Runs tasks on the executor and settles promises on the event loop.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "runtime/activity.h"
#include "runtime/cancellation.h"
#include "runtime/executor.h"
#include "runtime/short_runs.h"

namespace lta::node {

// How a task runs.
struct TaskOptions {
  const char* code;  // of errors that have no code of their own
  Executor::Kind kind = Executor::Kind::Urgent;
  CancellationPtr cancellation = nullptr;  // null: only the end of the environment stops it
  // Released when neither the task nor anything that it forked runs any more.
  std::shared_ptr<const void> token = nullptr;
  // Whether to check for the end of the environment before every operator.
  bool watched = false;
  // Of the runs that it is one of: its end may be waited for.
  std::shared_ptr<ShortRuns> shortRuns = nullptr;
};

// Runs `work` on the executor, then `complete` on the event loop's thread; the promise gets its result or the exception
// of either. Neither may capture Node-API values: they may be destroyed on another thread, or after the environment.
Napi::Promise runAsync(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> complete,
                       TaskOptions options);

// The same, passing the result of `work` to `complete`.
template <typename Result, typename Work, typename Complete>
Napi::Promise runAsync(Napi::Env env, Work work, Complete complete, TaskOptions options) {
  auto result = std::make_shared<Result>();
  return runAsync(
      env, [result, work = std::move(work)]() mutable { *result = work(); },
      [result, complete = std::move(complete)](Napi::Env env) { return complete(env, *result); }, std::move(options));
}

// Runs a function on the event loop's thread while the calling thread blocks, so that no JavaScript runs concurrently;
// if the environment is gone, on the calling thread. For tasks only.
using OnEventLoop = std::function<void(const std::function<void()>&)>;
OnEventLoop onEventLoop(Napi::Env env);

// → Promise<undefined>, resolved when nothing is in flight.
Napi::Promise whenSettled(Napi::Env env, Activity& activity);

}  // namespace lta::node
