#include "node/async.h"

#include "node/environment.h"
#include "node/errors.h"
#include "runtime/executor.h"

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

// Runs on the event loop's thread; without an environment where that is being torn down.
void onEventLoop(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<Call> call(static_cast<Call*>(data));
  if (!env) return;
  auto& here = environment(env);
  if (--here.pending == 0) napi_unref_threadsafe_function(env, here.channel->function);
  settle(env, *call);
}

void close(void* data) {
  auto* channel = static_cast<std::shared_ptr<Channel>*>(data);
  {
    std::lock_guard<std::mutex> lock((*channel)->mutex);
    (*channel)->closed = true;
  }
  delete channel;
}

}  // namespace

void openChannel(Napi::Env env) {
  auto channel = std::make_shared<Channel>();
  const auto name = Napi::String::New(env, "libtorch-attention");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, onEventLoop,
                                      &channel->function) != napi_ok) {
    throw Napi::Error::New(env);
  }
  napi_unref_threadsafe_function(env, channel->function);
  environment(env).channel = channel;
  // Cleanup hooks run in reverse order: this one closes the channel before Node destroys the function behind it.
  napi_add_env_cleanup_hook(env, close, new std::shared_ptr<Channel>(std::move(channel)));
}

Napi::Promise runAsync(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> complete,
                       const char* code) {
  auto& here = environment(env);
  auto* call = new Call{Napi::Promise::Deferred::New(env), std::move(work), std::move(complete), code, nullptr};
  const auto promise = call->deferred.Promise();
  if (here.pending++ == 0) napi_ref_threadsafe_function(env, here.channel->function);
  Executor::instance().submit([call, channel = here.channel] {
    bool closed;
    {
      std::lock_guard<std::mutex> lock(channel->mutex);
      closed = channel->closed;
    }
    if (!closed) {
      try {
        call->work();
      } catch (...) {
        call->failure = std::current_exception();
      }
    }
    call->work = nullptr;
    std::lock_guard<std::mutex> lock(channel->mutex);
    if (channel->closed ||
        napi_call_threadsafe_function(channel->function, call, napi_tsfn_nonblocking) != napi_ok) {
      delete call;
    }
  });
  return promise;
}

}  // namespace lta::node
