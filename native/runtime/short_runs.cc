#include "runtime/short_runs.h"

#include <algorithm>

namespace lta {
namespace {

using namespace std::chrono_literals;

// What takes longer may compute on the core that waiting would take from it.
constexpr ShortRuns::Duration kShort = 60us;
constexpr int64_t kLongestPause = 4096;

}  // namespace

bool ShortRuns::worthWaiting() {
  if (last_ > kShort.count()) return false;
  if (skipped_ == 0) return true;
  --skipped_;
  return false;
}

ShortRuns::Duration ShortRuns::limit() const { return std::min(Duration(last_), kShort) * 2 + 20us; }

void ShortRuns::waited(bool ended) {
  if (ended) {
    pause_ = std::max(pause_ / 2, kShortestPause);
  } else {
    skipped_ = pause_;
    pause_ = std::min(pause_ * 2, kLongestPause);
  }
}

}  // namespace lta
