#include "runtime/spin.h"

#include <atomic>
#include <thread>

#include "check.h"
#include "runtime/backoff.h"

using namespace std::chrono_literals;

TEST("spinning ends when the condition holds, and after its time when it doesn't") {
  EXPECT(lta::spinUntil([] { return true; }));
  EXPECT(lta::pauseUntil([] { return true; }, 0us));
  EXPECT(!lta::spinUntil([] { return false; }));
  EXPECT(!lta::pauseUntil([] { return false; }, 10us));
  if (lta::onOneCore()) return;
  std::atomic<bool> done{false};
  std::thread other([&] { done = true; });
  EXPECT(lta::pauseUntil([&] { return done.load(); }, 10s));
  other.join();
}

TEST("what is in vain is tried less often, for longer each time, and more often again after success") {
  lta::Backoff backoff;
  const auto skipped = [&] {
    int64_t count = 0;
    while (!backoff.allows()) ++count;
    return count;
  };
  EXPECT(skipped() == 0);
  backoff.tell(false);
  const auto first = skipped();
  EXPECT(first > 0);
  backoff.tell(false);
  EXPECT(skipped() == 2 * first);
  int64_t most = 0;
  for (int again = 0; again < 30; ++again) {
    backoff.tell(false);
    most = skipped();
  }
  EXPECT(most >= 8 * first && most < 100000);
  for (int again = 0; again < 30; ++again) backoff.tell(true);
  EXPECT(skipped() == 0);
  backoff.tell(false);
  EXPECT(skipped() == first);
}
