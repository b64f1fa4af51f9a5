#include "node/callback.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "node/errors.h"
#include "runtime/executor.h"

namespace lta::node {
namespace {

// What one call waits for.
class Outcome {
 public:
  void settle(std::exception_ptr failure) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (settled_) return;
    settled_ = true;
    failure_ = std::move(failure);
    ready_.notify_all();
  }

  void fail() {
    settle(std::make_exception_ptr(Error("ERR_HOOK_FAILED", "A function called by the running model failed")));
  }

  void wait(const CancellationPtr& cancellation) {
    const Executor::Waiting waiting;
    std::unique_lock<std::mutex> lock(mutex_);
    // A function that never settles must not keep a cancelled run: looked at often enough for a person.
    while (!ready_.wait_for(lock, std::chrono::milliseconds(20), [this] { return settled_; })) {
      if (cancellation) cancellation->check();
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  bool settled_ = false;
  std::exception_ptr failure_;
};

// Lives as long as the settle function: when that goes without having been called, nobody can call it any more.
struct Settler {
  explicit Settler(std::shared_ptr<Outcome> itsOutcome) : outcome(std::move(itsOutcome)) {}
  ~Settler() { outcome->fail(); }
  Settler(const Settler&) = delete;
  Settler& operator=(const Settler&) = delete;
  std::shared_ptr<Outcome> outcome;
};

}  // namespace

Callback::Callback(Napi::Function function)
    : channel_(environment(function.Env()).channel),
      function_(std::make_unique<Napi::FunctionReference>(Napi::Persistent(function))) {}

Callback::~Callback() {
  // References belong to the event loop's thread. Where the environment is gone, so is what they refer to: forgotten.
  auto* function = function_.release();
  if (!channel_->post([function](napi_env env) {
        if (env) delete function;
      })) {
    function->SuppressDestruct();
    delete function;
  }
}

void Callback::call(Arguments arguments, Take take, const CancellationPtr& cancellation) const {
  auto outcome = std::make_shared<Outcome>();
  const auto* function = function_.get();
  const bool posted = channel_->post([outcome, function, arguments = std::move(arguments),
                                      take = std::move(take)](napi_env rawEnv) {
    if (!rawEnv) return outcome->settle(std::make_exception_ptr(Cancelled()));
    const Napi::Env env(rawEnv);
    const Napi::HandleScope scope(env);
    try {
      auto settler = std::make_shared<Settler>(outcome);
      const auto settle = Napi::Function::New(env, [settler, take](const Napi::CallbackInfo& info) {
        if (info[0].ToBoolean()) return settler->outcome->fail();
        try {
          take(info[1]);
          settler->outcome->settle(nullptr);
        } catch (...) {
          settler->outcome->settle(std::current_exception());
        }
      });
      auto values = arguments(env);
      values.insert(values.begin(), settle);
      function->Value().Call(values);
    } catch (const Napi::Error&) {
      outcome->fail();
    } catch (...) {
      outcome->settle(std::current_exception());
    }
  });
  if (!posted) throw Cancelled();
  outcome->wait(cancellation);
}

}  // namespace lta::node
