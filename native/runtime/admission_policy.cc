#include "runtime/admission_policy.h"

#include <algorithm>

namespace lta {

AdmissionPolicy::Admits AdmissionPolicy::admits() const {
  if (occupied_ >= concurrency_) return Admits::Nothing;
  const bool admitsRun = waiting_ < maxWaiting_ && occupied_ + backpressured_ - overadmitted_ < concurrency_;
  return admitsRun ? Admits::Any : Admits::Urgent;
}

template <typename Change>
void AdmissionPolicy::update(Slot& slot, Change change) {
  occupied_ -= slot.occupied();
  detached_ -= slot.detached();
  change(slot);
  occupied_ += slot.occupied();
  detached_ += slot.detached();
}

void AdmissionPolicy::start(Slot& slot, Time now) {
  update(slot, [](Slot& started) { started.running = true; });
  lastProgress_ = now;
}

void AdmissionPolicy::finish(Slot& slot, Time now) {
  abandoned_ -= slot.abandoned;
  update(slot, [](Slot& finished) { finished.running = false; });
  lastProgress_ = now;
}

void AdmissionPolicy::beginWait(Slot* slot, Wait wait) {
  if (slot) update(*slot, [](Slot& waiting) { ++waiting.waits; });
  ++waiting_;
  if (wait == Wait::Backpressure) ++backpressured_;
}

void AdmissionPolicy::endWait(Slot* slot, Wait wait, Time now) {
  if (--waiting_ == 0) maxWaiting_ = kMaxWaiting;
  if (wait == Wait::Backpressure) overadmitted_ = std::min(overadmitted_, --backpressured_);
  // May exceed the limit for a moment: a blocked task resumes immediately.
  if (slot) update(*slot, [](Slot& waiting) { --waiting.waits; });
  lastProgress_ = now;
}

void AdmissionPolicy::releaseAbandoned(Slot& slot) {
  update(slot, [](Slot& abandoned) { abandoned.abandoned = true; });
  ++abandoned_;
}

bool AdmissionPolicy::abandon(const std::shared_ptr<Slot>& slot) {
  if (!slot->running || slot->abandoned) return false;
  if (abandoned_ >= kMaxAbandoned) {
    overdue_.push_back(slot);
    return false;
  }
  releaseAbandoned(*slot);
  return true;
}

bool AdmissionPolicy::releaseOverdue() {
  while (!overdue_.empty()) {
    const auto slot = overdue_.front().lock();
    overdue_.pop_front();
    if (!slot || !slot->running || slot->abandoned) continue;
    releaseAbandoned(*slot);
    return true;
  }
  return false;
}

bool AdmissionPolicy::relieveStall(Time now) {
  const auto stalled = now - lastProgress_;
  if (waiting_ >= maxWaiting_ && stalled > kStall) {
    maxWaiting_ *= 2;
  } else if (overadmitted_ < backpressured_ && stalled > kBackpressureStall) {
    ++overadmitted_;
  } else {
    return false;
  }
  lastProgress_ = now;
  return true;
}

}  // namespace lta
