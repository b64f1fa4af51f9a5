#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "runtime/executor.h"

namespace lta::node {

// Runs `work` on the executor, then `complete` on the event loop's thread, and settles the returned promise with its
// result, or with what either threw (`code` where the exception has no code of its own). Neither may capture values of
// Node-API: they may be destroyed on another thread, or after the environment.
Napi::Promise runAsync(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> complete,
                       const char* code, Executor::Kind kind = Executor::Kind::Urgent);

// The same with a result handed from one to the other.
template <typename Result, typename Work, typename Complete>
Napi::Promise runAsync(Napi::Env env, Work work, Complete complete, const char* code,
                       Executor::Kind kind = Executor::Kind::Urgent) {
  auto result = std::make_shared<Result>();
  return runAsync(
      env, [result, work = std::move(work)]() mutable { *result = work(); },
      [result, complete = std::move(complete)](Napi::Env env) { return complete(env, *result); }, code, kind);
}

}  // namespace lta::node
