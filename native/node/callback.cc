#include "node/callback.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "node/blocking.h"
#include "node/thrown.h"
#include "runtime/executor.h"
#include "runtime/spin.h"

namespace lta::node {
namespace {

// The state of one call. The event loop's thread touches data of the waiting thread only under this lock and while the
// call is open; a cancelled wait closes it, and nothing of the call refers to them afterwards.
class Outcome {
 public:
  // Runs `body` if the call is open; an exception settles the call.
  bool whileOpen(const std::function<void()>& body) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    try {
      body();
      return true;
    } catch (const Napi::Error&) {
      close(failure(nullptr));  // Napi::Error must not leave this thread
    } catch (...) {
      close(std::current_exception());
    }
    return false;
  }

  void settle(const std::function<void()>& take) {
    whileOpen([&] {
      take();
      close(nullptr);
    });
  }

  void answer(Napi::Value failure, Napi::Value value, const Callback::Take& take) {
    if (failure.IsObject()) return fail(failure.As<Napi::Object>());
    settle([&] { take(value); });
  }

  void fail() {
    whileOpen([&] { close(failure(nullptr)); });
  }
  void fail(Napi::Object box) {
    whileOpen([&] { close(failure(thrown(box))); });
  }

  // Fails the call if it is still open.
  void refuse(const Error& reason) {
    whileOpen([&] { close(std::make_exception_ptr(reason)); });
  }

  // Throws what the call failed with.
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  void abandon() {
    whileOpen([&] { close(std::make_exception_ptr(Cancelled())); });
  }

  void wait(const CancellationPtr& cancellation, Channel& channel, Executor::Waiting::Reason reason) {
    const Executor::Waiting waiting(reason);
    spinUntil([this] { return settled_.load(); });
    std::unique_lock<std::mutex> lock(mutex_);
    // A function that never settles must block neither a cancelled run nor an environment that ends and waits for its
    // runs (see Channel::acquireMemory), so both are polled.
    while (!ready_.wait_for(lock, std::chrono::milliseconds(20), [this] { return closed_; })) {
      if ((cancellation && cancellation->requested()) || channel.closed()) close(std::make_exception_ptr(Cancelled()));
      waiting.checkForStall();
    }
    rethrow();
  }

 private:
  static std::exception_ptr failure(Error::Cause cause) {
    return std::make_exception_ptr(
        Error("ERR_HOOK_FAILED", cause ? "A function that the running model called failed"
                                       : "A function that the running model called never settled")
            .withCause(std::move(cause)));
  }

  void close(std::exception_ptr failure) {
    closed_ = true;
    failure_ = std::move(failure);
    settled_ = true;
    ready_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  bool closed_ = false;
  std::atomic<bool> settled_{false};  // `closed_` for the spinning thread, without the lock
  std::exception_ptr failure_;
};

// Owned by the settle function: destroyed uncalled, it can't be called any more.
struct Settler {
  explicit Settler(std::shared_ptr<Outcome> settled) : outcome(std::move(settled)) {}
  ~Settler() { outcome->fail(); }
  Settler(const Settler&) = delete;
  Settler& operator=(const Settler&) = delete;
  std::shared_ptr<Outcome> outcome;
};

// Calls the function on its event loop's thread, which settles the outcome now or later.
void callInto(const std::shared_ptr<Outcome>& outcome, const Napi::FunctionReference& function,
              const Callback::Arguments& arguments, const Callback::Take& take) {
  const auto env = function.Env();
  const Napi::HandleScope scope(env);
  std::vector<napi_value> values;
  if (!outcome->whileOpen([&] { values = arguments(env); })) return;
  try {
    const auto answer = function.Value().Call(values);
    if (answer.IsUndefined()) {
      outcome->settle([] {});
    } else if (answer.IsFunction()) {
      const auto settler = std::make_shared<Settler>(outcome);
      answer.As<Napi::Function>().Call({Napi::Function::New(
          env, [settler, take](const Napi::CallbackInfo& info) { settler->outcome->answer(info[0], info[1], take); })});
    } else {
      const auto pair = answer.As<Napi::Array>();
      outcome->answer(pair.Get(0u), pair.Get(1u), take);
    }
  } catch (const Napi::Error&) {
    outcome->fail();
  }
}

Error notNow(const char* reason) {
  return {"ERR_HOOK_FAILED", std::string("A function that the running model called ") + reason};
}

}  // namespace

Callback::Callback(Napi::Function function)
    : channel_(environment(function.Env()).channel),
      function_(std::make_unique<Napi::FunctionReference>(Napi::Persistent(function))) {}

Callback::~Callback() { forget(*channel_, std::move(function_)); }

void Callback::call(Arguments arguments, Take take, const CancellationPtr& cancellation,
                    Executor::Waiting::Reason reason) const {
  auto outcome = std::make_shared<Outcome>();
  const auto* function = function_.get();
  if (inBlockingRun()) {
    outsideBlockingRun([&] { callInto(outcome, *function, arguments, take); });
    outcome->refuse(notNow("returned a promise, which a run that blocks the event loop can't wait for"));
    return outcome->rethrow();
  }
  if (const auto* run = Cancellation::current(); run && run->blocksEventLoop()) {
    throw notNow("would be called from another thread than that which the run blocks");
  }
  const bool posted =
      channel_->post([outcome, function, arguments = std::move(arguments), take = std::move(take)](napi_env env) {
        if (!env) return outcome->abandon();
        callInto(outcome, *function, arguments, take);
      });
  if (!posted) throw Cancelled();
  outcome->wait(cancellation, *channel_, reason);
}

}  // namespace lta::node
