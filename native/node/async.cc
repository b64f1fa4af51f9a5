#include "node/async.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "node/awaited_end.h"
#include "node/environment.h"
#include "node/errors.h"
#include "runtime/run_scope.h"

namespace lta::node {
namespace {

struct Call {
  Napi::Promise::Deferred deferred;
  std::function<void()> work;
  std::function<Napi::Value(Napi::Env)> complete;
  const char* code;
  std::exception_ptr failure;
};

void settle(Napi::Env env, Call& call) {
  Napi::HandleScope scope(env);
  try {
    if (call.failure) std::rethrow_exception(call.failure);
    call.deferred.Resolve(call.complete(env));
  } catch (const Napi::Error& error) {
    call.deferred.Reject(error.Value());
  } catch (...) {
    call.deferred.Reject(toJs(env, std::current_exception(), call.code).Value());
  }
}

}  // namespace

Napi::Promise runAsync(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> complete,
                       TaskOptions options) {
  const auto& channel = environment(env).channel;
  auto call = std::make_shared<Call>(
      Call{Napi::Promise::Deferred::New(env), std::move(work), std::move(complete), options.code, nullptr});
  const auto promise = call->deferred.Promise();
  auto cancellation = options.cancellation;
  if (!cancellation) {
    cancellation = std::make_shared<Cancellation>(channel->ended(), RunLimits{}, /*mayBeRequested=*/false);
  }
  const auto run = [call, channel, cancellation = std::move(cancellation), token = std::move(options.token),
                    watched = options.watched, shortRuns = options.shortRuns]() mutable {
    if (auto task = channel->beginTask(Executor::currentSlot())) {
      const auto tokens = std::make_shared<std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>>(
          std::move(task), std::move(token));
      try {
        cancellation->begin(Executor::currentSlot());
        const auto began = std::chrono::steady_clock::now();
        inRun(cancellation, watched || channel->memoryInUse(), tokens, call->work);
        if (shortRuns) shortRuns->took(std::chrono::steady_clock::now() - began);
      } catch (...) {
        call->failure = std::current_exception();
      }
    }
    // What `work` owns is freed here, not on the event loop's thread.
    call->work = nullptr;
    token = nullptr;
    const auto end = [call = std::move(call), channel](napi_env env) {
      if (!env) return;
      channel->unref(env);
      settle(env, *call);
    };
    shortRuns ? channel->postEnd(end) : channel->post(end);
  };
  try {
    Executor::instance().submit(run, options.kind);
    channel->ref(env);
    if (options.shortRuns) awaitIfShort(env, options.shortRuns);
  } catch (...) {
    call->deferred.Reject(toJs(env, std::current_exception(), call->code).Value());
  }
  return promise;
}

OnEventLoop onEventLoop(Napi::Env env) {
  return [channel = environment(env).channel](const std::function<void()>& body) {
    // Whichever side claims it runs `body`; the other never touches it again.
    struct State {
      std::atomic<bool> claimed{false};
      std::mutex mutex;
      std::condition_variable ended;
      bool done = false;
      std::exception_ptr error;

      void end(std::exception_ptr failure) {
        const std::lock_guard<std::mutex> lock(mutex);
        done = true;
        error = std::move(failure);
        ended.notify_all();
      }
    };
    const auto state = std::make_shared<State>();
    const bool posted = channel->post([state, &body](napi_env rawEnv) {
      if (!rawEnv || state->claimed.exchange(true)) return;
      try {
        body();
        state->end(nullptr);
      } catch (...) {
        state->end(std::current_exception());
      }
    });
    if (posted) {
      const Executor::Waiting waiting;
      std::unique_lock<std::mutex> lock(state->mutex);
      while (!state->ended.wait_for(lock, std::chrono::milliseconds(20), [&] { return state->done; })) {
        // An environment that ends may be blocked on this task and runs no JavaScript any more.
        if (channel->closed() && !state->claimed.exchange(true)) {
          lock.unlock();
          return body();
        }
        waiting.checkForStall();
      }
      if (state->error) std::rethrow_exception(state->error);
      return;
    }
    body();
  };
}

Napi::Promise whenSettled(Napi::Env env, Activity& activity) {
  const auto& channel = environment(env).channel;
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  channel->ref(env);
  activity.whenSettled([channel, deferred] {
    channel->post([channel, deferred](napi_env rawEnv) {
      if (!rawEnv) return;
      channel->unref(rawEnv);
      const Napi::HandleScope scope(rawEnv);
      deferred->Resolve(Napi::Env(rawEnv).Undefined());
    });
  });
  return deferred->Promise();
}

}  // namespace lta::node
