// Acquires locks on threads of the executor without blocking the runs that their holders wait for.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "runtime/executor.h"

namespace lta {

// Acquires a lock that may be held for long: its holder may be in a hook that waits for another run, which needs the
// slot of this one. Only for threads that work for a run.
template <typename Lock>
Lock lockYieldingSlot(typename Lock::mutex_type& mutex) {
  Lock lock(mutex, std::try_to_lock);
  if (!lock) {
    const Executor::Waiting waiting;
    lock.lock();
  }
  return lock;
}

// Acquires several, never blocking on one while holding another.
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
