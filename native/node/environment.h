#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>

#include "runtime/executor.h"

#include "node/array_buffers.h"
#include "node/reported_memory.h"

namespace lta::node {

// How other threads reach the event loop of one environment (the main thread's or a worker's). It outlives the
// environment: whoever comes after its end finds it closed.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  explicit Channel(Napi::Env env);

  // Runs `job` on the event loop's thread; false where the environment is gone or going. A job that was accepted may
  // still be run without an environment, while that is torn down.
  using Job = std::function<void(napi_env)>;
  bool post(Job job);
  bool closed();
  // Whether the environment ends, for what asks often.
  const std::shared_ptr<const std::atomic<bool>>& ended() const { return ended_; }

  // A task of this environment on another thread: lasts as long as what this returns, which is kept by all threads that
  // work for it. None where the environment is gone or going, and the task isn't to begin. An environment that ends
  // gives its slot up (see Executor::abandon).
  std::shared_ptr<const void> beginTask(std::shared_ptr<Slot> slot);

  // Around memory of the environment that tensors lie in; the end on any thread. An environment that ends first waits
  // for the tasks in flight, which stop then at the next operator: they may be reading what goes with it.
  void acquireMemory();
  void releaseMemory();
  bool memoryInUse();

  // Calls in flight keep the event loop alive, an idle addon doesn't. On the event loop's thread only.
  void ref(Napi::Env env);
  void unref(Napi::Env env);

 private:
  friend struct ChannelCloser;
  void endTask(const std::shared_ptr<Slot>& slot);

  std::mutex mutex_;
  const std::shared_ptr<std::atomic<bool>> ends_ = std::make_shared<std::atomic<bool>>(false);
  const std::shared_ptr<const std::atomic<bool>> ended_ = ends_;
  napi_threadsafe_function function_ = nullptr;
  bool closed_ = false;
  int tasks_ = 0;
  std::unordered_set<std::shared_ptr<Slot>> slots_;
  int64_t memoryUses_ = 0;
  std::condition_variable idle_;
  int refs_ = 0;  // touched by the event loop's thread only
};

// What the addon keeps per environment.
struct Environment {
  Napi::FunctionReference tensorClass;
  Napi::FunctionReference modelClass;
  Napi::FunctionReference scriptObjectClass;
  Napi::FunctionReference cancellationClass;
  Napi::FunctionReference hookClass;
  Napi::FunctionReference gradientsClass;
  // Whether the addon itself is making an object (see ObjectWrap).
  bool constructing = false;
  std::shared_ptr<Channel> channel;
  std::shared_ptr<ArrayBuffers> arrayBuffers = std::make_shared<ArrayBuffers>();
  std::shared_ptr<ReportedMemory> reportedMemory = std::make_shared<ReportedMemory>();
};

inline Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

// Lets go of a reference from any thread: references belong to the event loop's. Where the environment is gone, so is
// what it refers to.
template <typename Reference>
void forget(Channel& channel, std::unique_ptr<Reference> reference) {
  auto* const released = reference.release();
  const auto drop = [released] {
    released->SuppressDestruct();
    delete released;
  };
  if (!channel.post([released, drop](napi_env env) { env ? delete released : drop(); })) drop();
}

// To be called once for each environment, before anything runs in it.
void openChannel(Napi::Env env);

}  // namespace lta::node
