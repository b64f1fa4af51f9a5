#include "runtime/deep_stack.h"

#include <ATen/ThreadLocalState.h>
#include <pthread.h>

#include <cstddef>

#include "runtime/error.h"

namespace lta {
namespace {

constexpr size_t kStackBytes = size_t{512} << 20;

struct Call {
  const std::function<void()>& function;
  at::ThreadLocalState state;
  std::exception_ptr thrown;
};

void* run(void* argument) {
  auto& call = *static_cast<Call*>(argument);
  try {
    const at::ThreadLocalStateGuard guard(call.state);
    call.function();
  } catch (...) {
    call.thrown = std::current_exception();
  }
  return nullptr;
}

}  // namespace

void onDeepStack(const std::function<void()>& function) {
  Call call{function, {}, nullptr};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_t thread;
  const bool started =
      pthread_attr_setstacksize(&attributes, kStackBytes) == 0 && pthread_create(&thread, &attributes, run, &call) == 0;
  pthread_attr_destroy(&attributes);
  if (!started) throw Error("ERR_MODEL_LOAD", "the system has no room for a thread that compiles the program");
  pthread_join(thread, nullptr);
  if (call.thrown) std::rethrow_exception(call.thrown);
}

}  // namespace lta
