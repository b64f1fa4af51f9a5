// Tries something less often where it is in vain.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lta {

// Each attempt in vain puts off the next one, by twice as many occasions as the last; success halves that again. One
// thread at a time.
class Backoff {
 public:
  // Whether to try on this occasion.
  bool allows() {
    if (skipped_ == 0) return true;
    --skipped_;
    return false;
  }
  void tell(bool worthwhile) {
    if (worthwhile) {
      pause_ = std::max(pause_ / 2, kShortest);
    } else {
      skipped_ = pause_;
      pause_ = std::min(pause_ * 2, kLongest);
    }
  }

 private:
  static constexpr int64_t kShortest = 16;
  static constexpr int64_t kLongest = 4096;
  int64_t skipped_ = 0;  // occasions from now on
  int64_t pause_ = kShortest;
};

}  // namespace lta
