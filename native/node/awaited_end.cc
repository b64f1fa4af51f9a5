#include "node/awaited_end.h"

#include <utility>

#include "node/environment.h"
#include "runtime/spin.h"

namespace lta::node {
namespace {

// What `setImmediate` calls.
void awaitEnd(const Napi::CallbackInfo& info) {
  auto& here = environment(info.Env());
  const auto runs = std::exchange(here.awaitedRuns, nullptr);
  if (runs && here.channel->oneInFlight()) runs->waited(here.channel->awaitEnd(info.Env(), runs->limit()));
}

}  // namespace

// Waiting begins in an immediate: at once it would keep the caller from beginning other runs, and in a microtask a loop
// of runs would never let the event loop come to timers and sockets.
void awaitIfShort(Napi::Env env, const std::shared_ptr<ShortRuns>& runs) {
  if (onOneCore()) return;
  auto& here = environment(env);
  if (here.awaitedRuns || here.setImmediate.IsEmpty() || !here.channel->oneInFlight() || !runs->worthWaiting()) return;
  const Napi::HandleScope scope(env);
  try {
    here.setImmediate.Call({here.awaitEnd.Value()});
    here.awaitedRuns = runs;
  } catch (const Napi::Error&) {
    // Someone's own function, or an environment that ends.
    here.setImmediate.Reset();
  }
}

void defineAwaitedEnd(Napi::Env env) {
  auto& here = environment(env);
  const Napi::Value setImmediate = env.Global().Get("setImmediate");
  if (!setImmediate.IsFunction()) return;
  here.setImmediate = Napi::Persistent(setImmediate.As<Napi::Function>());
  here.awaitEnd = Napi::Persistent(Napi::Function::New(env, awaitEnd));
}

}  // namespace lta::node
