#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace lta {

// What is going on with a model: tasks that wait for their turn, that run, and what they left running. Safe to use from
// several threads at once.
class Activity : public std::enable_shared_from_this<Activity> {
 public:
  // Something is going on as long as what this returns lives.
  std::shared_ptr<const void> begin();
  // Calls `settled` once nothing is going on: at once, or on the thread that ends the last of it. It must not throw.
  void whenSettled(std::function<void()> settled);

 private:
  void end();

  std::mutex mutex_;
  int count_ = 0;
  std::vector<std::function<void()>> waiting_;
};

}  // namespace lta
