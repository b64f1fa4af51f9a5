#include "node/environment.h"

#include <utility>

#include "runtime/spin.h"

namespace lta::node {
namespace {

void perform(const Channel::Job& job, napi_env env) {
  try {
    job(env);
  } catch (const Napi::Error&) {
    // Jobs handle their own errors. What is left comes from a worker being terminated, which runs no JavaScript any
    // more.
  }
}

}  // namespace

struct Channel::Posted {
  Job job;
  std::shared_ptr<Channel> channel;

  static void run(napi_env env, napi_value, void*, void* data) {
    const std::unique_ptr<Posted> posted(static_cast<Posted*>(data));
    {
      const std::lock_guard<std::mutex> lock(posted->channel->mutex_);
      --posted->channel->queued_;
    }
    perform(posted->job, env);
  }
};

struct ChannelCloser {
  static void close(void* data) {
    const std::unique_ptr<std::shared_ptr<Channel>> channel(static_cast<std::shared_ptr<Channel>*>(data));
    auto& self = **channel;
    std::unique_lock<std::mutex> lock(self.mutex_);
    self.closed_ = true;
    *self.ends_ = true;
    for (const auto& slot : self.slots_) Executor::instance().abandon(slot);
    self.idle_.wait(lock, [&] { return self.tasks_ == 0 || self.memoryUses_ == 0; });
  }
};

Channel::Channel(Napi::Env env) {
  const auto name = Napi::String::New(env, "libtorch-attention");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, Posted::run,
                                      &function_) != napi_ok) {
    throw Napi::Error::New(env);
  }
  napi_unref_threadsafe_function(env, function_);
}

bool Channel::post(Job job) {
  auto posted = std::make_unique<Posted>(
      Posted{std::move(job), shared_from_this()});  // its destructor may post: outside the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  return enqueue(posted);
}

bool Channel::postEnd(Job job) {
  std::unique_ptr<Posted> posted;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (awaiting_ && !end_ && queued_ == 0) {
    end_ = std::move(job);
    awaitedCame_ = true;
    return true;
  }
  posted = std::make_unique<Posted>(Posted{std::move(job), shared_from_this()});
  return enqueue(posted);
}

bool Channel::enqueue(std::unique_ptr<Posted>& posted) {
  if (closed_) return false;
  auto* const given = posted.release();
  if (napi_call_threadsafe_function(function_, given, napi_tsfn_nonblocking) != napi_ok) {
    posted.reset(given);
    return false;
  }
  ++queued_;
  awaitedCame_ = true;
  return true;
}

bool Channel::awaitEnd(Napi::Env env, std::chrono::steady_clock::duration limit) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    if (queued_ > 0) return false;
    awaiting_ = true;
    awaitedCame_ = false;
  }
  pauseUntil([this] { return awaitedCame_.load(); }, limit);
  Job end;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    awaiting_ = false;
    end = std::exchange(end_, nullptr);
  }
  if (!end) return false;
  perform(end, env);
  return true;
}

bool Channel::closed() {
  std::lock_guard<std::mutex> lock(mutex_);
  return closed_;
}

std::shared_ptr<const void> Channel::beginTask(std::shared_ptr<Slot> slot) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return nullptr;
  ++tasks_;
  slots_.insert(slot);
  return {this, [self = shared_from_this(), slot = std::move(slot)](const void*) { self->endTask(slot); }};
}

void Channel::endTask(const std::shared_ptr<Slot>& slot) {
  std::lock_guard<std::mutex> lock(mutex_);
  slots_.erase(slot);
  --tasks_;
  idle_.notify_all();
}

void Channel::acquireMemory() {
  std::lock_guard<std::mutex> lock(mutex_);
  ++memoryUses_;
}

void Channel::releaseMemory() {
  std::lock_guard<std::mutex> lock(mutex_);
  --memoryUses_;
  idle_.notify_all();
}

bool Channel::memoryInUse() {
  std::lock_guard<std::mutex> lock(mutex_);
  return memoryUses_ > 0;
}

void Channel::ref(Napi::Env env) {
  if (refs_++ == 0) napi_ref_threadsafe_function(env, function_);
}

void Channel::unref(Napi::Env env) {
  if (--refs_ == 0) napi_unref_threadsafe_function(env, function_);
}

void openChannel(Napi::Env env) {
  auto channel = std::make_shared<Channel>(env);
  environment(env).channel = channel;
  // Cleanup hooks run in reverse order: this one closes the channel before Node destroys the thread-safe function.
  napi_add_env_cleanup_hook(env, ChannelCloser::close, new std::shared_ptr<Channel>(std::move(channel)));
}

}  // namespace lta::node
