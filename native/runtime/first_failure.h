// Remembers the first exception of a run.
#pragma once

#include <exception>
#include <mutex>

namespace lta {

// The first exception thrown on any thread of a run, to be reported: the TorchScript interpreter replaces exceptions
// that propagate through it. Thread-safe.
class FirstFailure {
 public:
  // Runs `body`; records and rethrows what it throws.
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
