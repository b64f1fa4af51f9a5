#include "runtime/short_runs.h"

#include "check.h"

using lta::ShortRuns;
using namespace std::chrono_literals;

namespace {

// How many runs begin until one is waited for; at most `most`.
int64_t until(ShortRuns& runs, int64_t most = 10000) {
  int64_t begun = 0;
  while (begun < most && !runs.worthWaiting()) ++begun;
  return begun;
}

}  // namespace

TEST("the end of a run is waited for if the last run was short") {
  ShortRuns runs;
  EXPECT(!runs.worthWaiting());
  runs.took(20us);
  EXPECT(runs.worthWaiting());
  EXPECT(runs.limit() == 60us);
  runs.took(10ms);
  EXPECT(!runs.worthWaiting());
  EXPECT(runs.limit() <= 200us);
}

TEST("waiting in vain puts off the next time, for longer each time, and success for shorter again") {
  ShortRuns runs;
  runs.took(20us);
  EXPECT(runs.worthWaiting());
  runs.waited(false);
  const auto first = until(runs);
  EXPECT(first > 0);
  runs.waited(false);
  const auto second = until(runs);
  EXPECT(second == 2 * first);
  for (int again = 0; again < 20; ++again) {
    runs.waited(false);
    EXPECT(until(runs) < 10000);
  }
  for (int again = 0; again < 20; ++again) runs.waited(true);
  EXPECT(until(runs) == 0);
  runs.waited(false);
  EXPECT(until(runs) == first);
}
