// State per environment (main thread or worker), and how other threads reach its event loop.
#pragma once

#include <napi.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>

#include "runtime/executor.h"
#include "runtime/short_runs.h"

#include "node/array_buffers.h"
#include "node/reported_memory.h"

namespace lta::node {

// Thread-safe. Outlives its environment: it is closed then, and refuses jobs.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  explicit Channel(Napi::Env env);

  // Runs `job` on the event loop's thread; returns false if the environment has ended or is ending. During teardown an
  // accepted job may run with a null environment.
  using Job = std::function<void(napi_env)>;
  bool post(Job job);
  // The same for the end of a run: where the event loop's thread waits for that (see `awaitEnd`), it needn't be woken.
  bool postEnd(Job job);
  // Waits for the end of a run and handles it; returns false if there was none in time, or another job came first.
  // Event loop's thread only.
  bool awaitEnd(Napi::Env env, std::chrono::steady_clock::duration limit);
  bool closed();
  // Set when the environment ends; cheap to poll.
  const std::shared_ptr<const std::atomic<bool>>& ended() const { return ended_; }

  // Registers a task for this environment on another thread. The task lasts as long as the token, which all its threads
  // share; null if the environment is ending, and the task must not begin. At the end of the environment its slot is
  // released (see Executor::abandon).
  std::shared_ptr<const void> beginTask(std::shared_ptr<Slot> slot);

  // Bracket the time that tensors refer to memory of the environment; `releaseMemory` on any thread. An environment
  // that ends first waits for tasks in flight, which stop at the next operator: they may be reading that memory.
  void acquireMemory();
  void releaseMemory();
  bool memoryInUse();

  // Keeps the event loop alive while calls are in flight. Event loop's thread only.
  void ref(Napi::Env env);
  void unref(Napi::Env env);
  bool oneInFlight() const { return refs_ == 1; }

 private:
  friend struct ChannelCloser;
  struct Posted;
  void endTask(const std::shared_ptr<Slot>& slot);
  bool enqueue(std::unique_ptr<Posted>& posted);

  std::mutex mutex_;
  const std::shared_ptr<std::atomic<bool>> ends_ = std::make_shared<std::atomic<bool>>(false);
  const std::shared_ptr<const std::atomic<bool>> ended_ = ends_;
  napi_threadsafe_function function_ = nullptr;
  bool closed_ = false;
  int tasks_ = 0;
  std::unordered_set<std::shared_ptr<Slot>> slots_;
  int64_t memoryUses_ = 0;
  std::condition_variable idle_;
  int refs_ = 0;  // event loop's thread only
  // Jobs that were posted and haven't run yet: an end must not overtake them.
  int64_t queued_ = 0;
  // Whether the event loop's thread waits for the end of a run; that, once it has come; whether it or any other job
  // has.
  bool awaiting_ = false;
  Job end_;
  std::atomic<bool> awaitedCame_{false};
};

// State of the addon per environment.
struct Environment {
  Napi::FunctionReference tensorClass;
  Napi::FunctionReference modelClass;
  Napi::FunctionReference scriptObjectClass;
  Napi::FunctionReference cancellationClass;
  Napi::FunctionReference hookClass;
  Napi::FunctionReference gradientsClass;
  // Of awaited_end.cc: the function that the environment had at first, what it is given, and the runs one of whose ends
  // is to be waited for.
  Napi::FunctionReference setImmediate;
  Napi::FunctionReference awaitEnd;
  std::shared_ptr<ShortRuns> awaitedRuns;
  // Whether the addon is constructing an object (see ObjectWrap).
  bool constructing = false;
  std::shared_ptr<Channel> channel;
  std::shared_ptr<ArrayBuffers> arrayBuffers = std::make_shared<ArrayBuffers>();
  std::shared_ptr<ReportedMemory> reportedMemory = std::make_shared<ReportedMemory>();
};

inline Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

// Releases a reference from any thread: references belong to the event loop's. If the environment is gone, only the C++
// object is deleted.
template <typename Reference>
void forget(Channel& channel, std::unique_ptr<Reference> reference) {
  auto* const released = reference.release();
  const auto drop = [released] {
    released->SuppressDestruct();
    delete released;
  };
  if (!channel.post([released, drop](napi_env env) { env ? delete released : drop(); })) drop();
}

// To be called once per environment, before anything runs in it.
void openChannel(Napi::Env env);

}  // namespace lta::node
