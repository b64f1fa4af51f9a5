#include "runtime/activity.h"

#include <utility>

namespace lta {

std::shared_ptr<const void> Activity::begin() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
  }
  return {this, [self = shared_from_this()](const void*) { self->end(); }};
}

void Activity::end() {
  std::vector<std::function<void()>> settled;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--count_ == 0) settled.swap(waiting_);
  }
  for (const auto& each : settled) each();
}

void Activity::whenSettled(std::function<void()> settled) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (count_ > 0) return waiting_.push_back(std::move(settled));
  }
  settled();
}

}  // namespace lta
