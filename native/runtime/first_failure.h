#pragma once

#include <exception>
#include <mutex>

namespace lta {

// What was thrown into a run first, from any of its threads. The TorchScript interpreter makes other exceptions of what
// passes it; this is the one to report.
class FirstFailure {
 public:
  // Runs `body`; what it throws is noted and goes on.
  template <typename Body>
  auto noting(Body body) -> decltype(body()) {
    try {
      return body();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      throw;
    }
  }

  std::exception_ptr get() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return failure_;
  }

 private:
  mutable std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace lta
