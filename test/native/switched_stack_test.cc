#include <pthread.h>

#include <stdexcept>
#include <string>

#include "check.h"
#include "runtime/switched_stack.h"

namespace {

// Uses 4 KB of stack for each level.
int descend(int levels) {
  volatile char filler[4096];
  filler[0] = static_cast<char>(levels);
  filler[sizeof(filler) - 1] = filler[0];
  return levels == 0 ? 0 : 1 + descend(levels - 1) + (filler[0] - filler[sizeof(filler) - 1]);
}

// Whether an object lies on the stack that the system gave the calling thread.
bool isOnOwnStack(const void* object) {
  pthread_attr_t attributes;
  void* lowest = nullptr;
  size_t bytes = 0;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &lowest, &bytes);
  pthread_attr_destroy(&attributes);
  const auto* const address = static_cast<const char*>(object);
  return address >= static_cast<char*>(lowest) && address < static_cast<char*>(lowest) + bytes;
}

bool switches() {
  bool own = true;
  lta::onSwitchedStack([&] {
    const int here = 0;
    own = isOnOwnStack(&here);
  });
  return !own;
}

void* onSmallStack(void* depth) {
  lta::onSwitchedStack([&] { *static_cast<int*>(depth) = descend(*static_cast<int*>(depth)); });
  return nullptr;
}

}  // namespace

TEST("a thread with a small stack recurses deeply on a switched one") {
  if (!switches()) return;  // sanitizers
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  pthread_t thread;
  int depth = 100'000;
  EXPECT(pthread_create(&thread, &attributes, onSmallStack, &depth) == 0);
  pthread_attr_destroy(&attributes);
  pthread_join(thread, nullptr);
  EXPECT(depth == 100'000);
}

TEST("a switched stack calls back onto the thread's own, which may switch in turn") {
  std::string order;
  lta::onSwitchedStack([&] {
    order += 'a';
    lta::onOwnStack([&] {
      const int here = 0;
      order += isOnOwnStack(&here) ? "b" : "?";
      lta::onSwitchedStack([&] {
        order += 'c';
        lta::onOwnStack([&] { order += 'd'; });
        order += 'e';
      });
      lta::onOwnStack([&] { order += 'f'; });
    });
    lta::onOwnStack([&] { order += 'g'; });
    order += 'h';
  });
  EXPECT(order == "abcdefgh");
}

TEST("exceptions cross switched stacks in both directions, also while others are handled") {
  std::string seen;
  try {
    lta::onSwitchedStack([&] {
      try {
        throw std::runtime_error("first");
      } catch (const std::exception& first) {
        try {
          lta::onOwnStack([] { throw std::runtime_error("second"); });
        } catch (const std::exception& second) {
          seen = std::string(first.what()) + " " + second.what();
        }
        throw;
      }
    });
  } catch (const std::exception& error) {
    seen += std::string(" ") + error.what();
  }
  EXPECT(seen == "first second first");
  bool after = false;
  lta::onSwitchedStack([&] { after = true; });
  EXPECT(after);
}
