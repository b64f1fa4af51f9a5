#include "node/environment.h"

namespace lta::node {
namespace {

void run(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Channel::Job> job(static_cast<Channel::Job*>(data));
  try {
    (*job)(env);
  } catch (const Napi::Error&) {
    // Jobs handle their own errors. What is left comes from a worker being terminated, which runs no JavaScript any
    // more.
  }
}

}  // namespace

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
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, run, &function_) !=
      napi_ok) {
    throw Napi::Error::New(env);
  }
  napi_unref_threadsafe_function(env, function_);
}

bool Channel::post(Job job) {
  auto* owned = new Job(std::move(job));
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_ && napi_call_threadsafe_function(function_, owned, napi_tsfn_nonblocking) == napi_ok) return true;
  }
  delete owned;  // outside the lock: its destructors may post
  return false;
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
