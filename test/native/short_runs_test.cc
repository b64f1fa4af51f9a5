#include "runtime/short_runs.h"

#include "check.h"

using lta::ShortRuns;
using namespace std::chrono_literals;

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

TEST("waiting in vain puts off the next time") {
  ShortRuns runs;
  runs.took(20us);
  EXPECT(runs.worthWaiting());
  runs.waited(false);
  EXPECT(!runs.worthWaiting());
  int64_t begun = 1;
  while (!runs.worthWaiting()) ++begun;
  EXPECT(begun < 10000);
}
