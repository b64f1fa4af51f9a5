#include "runtime/admission_policy.h"

#include <algorithm>

namespace lta {

AdmissionPolicy::Admits AdmissionPolicy::admits() const {
  if (occupied_ >= concurrency_) return Admits::Nothing;
  const bool run = waiting_ < maxWaiting_ && occupied_ + backpressured_ - startedInSpite_ < concurrency_;
  return run ? Admits::Any : Admits::Urgent;
}

template <typename Change>
void AdmissionPolicy::change(Slot& slot, Change how) {
  occupied_ -= slot.occupied();
  detached_ -= slot.detached();
  how(slot);
  occupied_ += slot.occupied();
  detached_ += slot.detached();
}

void AdmissionPolicy::start(Slot& slot, Time now) {
  change(slot, [](Slot& started) { started.running = true; });
  lastProgress_ = now;
}

void AdmissionPolicy::finish(Slot& slot, Time now) {
  abandoned_ -= slot.abandoned;
  change(slot, [](Slot& finished) { finished.running = false; });
  lastProgress_ = now;
}

void AdmissionPolicy::beginWait(Slot* slot, Wait wait) {
  if (slot) change(*slot, [](Slot& waiting) { ++waiting.waits; });
  ++waiting_;
  if (wait == Wait::Backpressure) ++backpressured_;
}

void AdmissionPolicy::endWait(Slot* slot, Wait wait, Time now) {
  if (--waiting_ == 0) maxWaiting_ = kMaxWaiting;
  if (wait == Wait::Backpressure) startedInSpite_ = std::min(startedInSpite_, --backpressured_);
  // May pass the limit for a moment: whoever waited goes on at once.
  if (slot) change(*slot, [](Slot& waiting) { --waiting.waits; });
  lastProgress_ = now;
}

void AdmissionPolicy::giveUp(Slot& slot) {
  change(slot, [](Slot& given) { given.abandoned = true; });
  ++abandoned_;
}

bool AdmissionPolicy::abandon(const std::shared_ptr<Slot>& slot) {
  if (!slot->running || slot->abandoned) return false;
  if (abandoned_ >= kMaxAbandoned) {
    overdue_.push_back(slot);
    return false;
  }
  giveUp(*slot);
  return true;
}

bool AdmissionPolicy::giveUpOverdue() {
  while (!overdue_.empty()) {
    const auto slot = overdue_.front().lock();
    overdue_.pop_front();
    if (!slot || !slot->running || slot->abandoned) continue;
    giveUp(*slot);
    return true;
  }
  return false;
}

bool AdmissionPolicy::relieveStall(Time now) {
  const auto still = now - lastProgress_;
  if (waiting_ >= maxWaiting_ && still > kStall) {
    maxWaiting_ *= 2;
  } else if (startedInSpite_ < backpressured_ && still > kBackpressureStall) {
    ++startedInSpite_;
  } else {
    return false;
  }
  lastProgress_ = now;
  return true;
}

}  // namespace lta
