#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

namespace lta::node {

// How threads of the executor reach the event loop of one environment (the main thread's or a worker's). It outlives
// the environment: whoever comes after its end finds it closed.
struct Channel {
  std::mutex mutex;
  napi_threadsafe_function function = nullptr;
  bool closed = false;
};

// What the addon keeps per environment.
struct Environment {
  Napi::FunctionReference tensorClass;
  Napi::FunctionReference scriptModuleClass;
  Napi::FunctionReference cancellationClass;
  std::shared_ptr<Channel> channel;
  int pending = 0;  // calls under way: they keep the event loop alive, an idle addon doesn't
};

inline Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

}  // namespace lta::node
