#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "runtime/executor.h"

namespace lta {

// A lock that may be long in coming: whoever holds it may wait for a hook, which waits for another run, which needs the
// place of this one. For threads that work for a run only.
template <typename Lock>
Lock lockYieldingSlot(typename Lock::mutex_type& mutex) {
  Lock lock(mutex, std::try_to_lock);
  if (!lock) {
    const Executor::Waiting waiting;
    lock.lock();
  }
  return lock;
}

// Several at once, none of which is held while another is waited for.
template <typename Lock>
std::vector<Lock> lockAllYieldingSlot(const std::vector<typename Lock::mutex_type*>& mutexes) {
  std::vector<Lock> locks;
  for (size_t first = 0; locks.size() < mutexes.size();) {
    locks.clear();
    locks.push_back(lockYieldingSlot<Lock>(*mutexes[first]));
    for (size_t i = 0; i < mutexes.size(); ++i) {
      if (i == first) continue;
      Lock lock(*mutexes[i], std::try_to_lock);
      if (!lock) {
        first = i;
        break;
      }
      locks.push_back(std::move(lock));
    }
  }
  return locks;
}

}  // namespace lta
