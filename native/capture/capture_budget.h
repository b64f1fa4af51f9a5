// The bytes that a capture may hold (the option `maxBytes`).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "capture/attention.h"

namespace lta {

class CaptureBudget {
 public:
  explicit CaptureBudget(std::optional<int64_t> most) : most_(most) {}

  // For the weights of one more attention, before their memory is allocated. Throws ERR_CAPTURE_TOO_LARGE.
  void reserve(const Site& site, int64_t bytes);
  // The same for anything: `what` is called to say what it is, where there is no room; `less`, how to select less.
  void reserve(int64_t bytes, const std::function<std::string()>& what, const char* less);
  // Nothing is held any more: it was handed over.
  void reset() { held_ = 0; }

 private:
  const std::optional<int64_t> most_;
  std::atomic<int64_t> held_{0};
};

}  // namespace lta
