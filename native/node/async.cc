#include "node/async.h"

#include "node/environment.h"
#include "node/errors.h"

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
                       const char* code, Executor::Kind kind) {
  const auto& channel = environment(env).channel;
  auto call = std::make_shared<Call>(
      Call{Napi::Promise::Deferred::New(env), std::move(work), std::move(complete), code, nullptr});
  const auto promise = call->deferred.Promise();
  channel->hold(env);
  Executor::instance().submit(
      [call, channel]() mutable {
        if (channel->beginTask()) {
          try {
            call->work();
          } catch (...) {
            call->failure = std::current_exception();
          }
          channel->endTask();
        }
        call->work = nullptr;  // what the work held is freed here, not on the event loop's thread
        channel->post([call = std::move(call), channel](napi_env env) {
          if (!env) return;
          channel->release(env);
          settle(env, *call);
        });
      },
      kind);
  return promise;
}

}  // namespace lta::node
