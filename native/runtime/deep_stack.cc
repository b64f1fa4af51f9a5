#include "runtime/deep_stack.h"

#include <c10/util/ScopeExit.h>

#include <pthread.h>
#include <sys/resource.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/error.h"
#include "torch/thread_state.h"

namespace lta {
namespace {

struct Call {
  const std::function<void()>& function;
  ThreadState state;
  std::exception_ptr thrown;
};

void* runCall(void* argument) {
  auto& call = *static_cast<Call*>(argument);
  try {
    const ThreadStateScope scope(call.state);
    call.function();
  } catch (...) {
    call.thrown = std::current_exception();
  }
  return nullptr;
}

void* runOwned(void* argument) {
  const std::unique_ptr<std::function<void()>> function(static_cast<std::function<void()>*>(argument));
  (*function)();
  return nullptr;
}

// Returns false if the system can't start such a thread.
bool start(pthread_t& thread, int detached, void* (*body)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  const bool started = pthread_attr_setstacksize(&attributes, kDeepStackBytes) == 0 &&
                       pthread_attr_setdetachstate(&attributes, detached) == 0 &&
                       pthread_create(&thread, &attributes, body, argument) == 0;
  pthread_attr_destroy(&attributes);
  return started;
}

}  // namespace

void onDeepStack(const std::function<void()>& function) {
  Call call{function, {}, nullptr};
  pthread_t thread;
  if (!start(thread, PTHREAD_CREATE_JOINABLE, runCall, &call)) {
    throw Error("ERR_MODEL_LOAD", "the system refuses a thread with the stack that compiling the program needs");
  }
  pthread_join(thread, nullptr);
  if (call.thrown) std::rethrow_exception(call.thrown);
}

void startOnDeepStack(std::function<void()> function) {
  auto* const owned = std::make_unique<std::function<void()>>(std::move(function)).release();
  pthread_t thread;
  if (start(thread, PTHREAD_CREATE_DETACHED, runOwned, owned)) return;
  const std::unique_ptr<std::function<void()>> back(owned);
  std::thread(std::move(*back)).detach();
}

void withDeepStacks(const std::function<void()>& body) {
#if defined(__GLIBC__)
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  pthread_attr_t before;
  pthread_attr_t deep;
  // If the address space is limited, threads that fail to start would be worse than shallow stacks.
  rlimit addresses{};
  const bool limited = getrlimit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur != RLIM_INFINITY;
  const bool known = !limited && pthread_getattr_default_np(&before) == 0;
  if (known && pthread_getattr_default_np(&deep) == 0) {
    if (pthread_attr_setstacksize(&deep, kDeepStackBytes) == 0) pthread_setattr_default_np(&deep);
    pthread_attr_destroy(&deep);
  }
  const auto restore = c10::make_scope_exit([&] {
    if (!known) return;
    pthread_setattr_default_np(&before);
    pthread_attr_destroy(&before);
  });
#endif
  body();
}

}  // namespace lta
