#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>

namespace lta::node {

// How other threads reach the event loop of one environment (the main thread's or a worker's). It outlives the
// environment: whoever comes after its end finds it closed.
class Channel {
 public:
  explicit Channel(Napi::Env env);

  // Runs `job` on the event loop's thread; false where the environment is gone or going. A job that was accepted may
  // still be run without an environment, while that is torn down.
  using Job = std::function<void(napi_env)>;
  bool post(Job job);
  bool closed();

  // Calls under way keep the event loop alive, an idle addon doesn't. On the event loop's thread only.
  void hold(Napi::Env env);
  void release(Napi::Env env);

 private:
  friend struct ChannelCloser;
  std::mutex mutex_;
  napi_threadsafe_function function_ = nullptr;
  bool closed_ = false;
  int held_ = 0;
};

// What the addon keeps per environment.
struct Environment {
  Napi::FunctionReference tensorClass;
  Napi::FunctionReference scriptModuleClass;
  Napi::FunctionReference cancellationClass;
  Napi::FunctionReference hookClass;
  Napi::FunctionReference gradientsClass;
  Napi::FunctionReference nnModuleClass;
  std::shared_ptr<Channel> channel;
};

inline Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

// To be called once for each environment, before anything runs in it.
void openChannel(Napi::Env env);

}  // namespace lta::node
