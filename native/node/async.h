#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "runtime/activity.h"
#include "runtime/cancellation.h"
#include "runtime/executor.h"

namespace lta::node {

// How a task runs.
struct TaskOptions {
  const char* code;  // of what it throws that has no code of its own
  Executor::Kind kind = Executor::Kind::Urgent;
  CancellationPtr cancellation = nullptr;  // what can stop it; without one only the end of the environment does
  // Kept until nothing of the task is at work any more: neither itself nor what it left running.
  std::shared_ptr<const void> token = nullptr;
  // Whether to look at each operator for an end of the environment.
  bool watched = false;
};

// Runs `work` on the executor, then `complete` on the event loop's thread, and settles the returned promise with its
// result, or with what either threw. Neither may capture values of Node-API: they may be destroyed on another thread,
// or after the environment.
Napi::Promise runAsync(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> complete,
                       TaskOptions options);

// The same with a result handed from one to the other.
template <typename Result, typename Work, typename Complete>
Napi::Promise runAsync(Napi::Env env, Work work, Complete complete, TaskOptions options) {
  auto result = std::make_shared<Result>();
  return runAsync(
      env, [result, work = std::move(work)]() mutable { *result = work(); },
      [result, complete = std::move(complete)](Napi::Env env) { return complete(env, *result); }, std::move(options));
}

// Runs something on the event loop's thread while the calling one waits, so that no JavaScript runs meanwhile; where
// the environment is gone, on the calling thread. To be called by tasks.
using OnEventLoop = std::function<void(const std::function<void()>&)>;
OnEventLoop onEventLoop(Napi::Env env);

// → Promise<undefined>, once nothing is going on any more.
Napi::Promise whenSettled(Napi::Env env, Activity& activity);

}  // namespace lta::node
