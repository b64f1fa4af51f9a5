#include "runtime/switched_stack.h"

#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/deep_stack.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LTA_SWITCHES_STACKS 0  // the sanitizers would have to be told of each switch
#elif defined(__linux__)
#define LTA_SWITCHES_STACKS 1
#else
#define LTA_SWITCHES_STACKS 0
#endif

#if LTA_SWITCHES_STACKS
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#endif

namespace lta {

#if LTA_SWITCHES_STACKS

namespace {

class Stack {
 public:
  // Null if the system has no address space for one.
  static std::unique_ptr<Stack> make() {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
    void* const memory = mmap(nullptr, kDeepStackBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    // An overflow ends at the lowest page, whatever the system has put below it.
    mprotect(memory, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);
    return std::unique_ptr<Stack>(new Stack(memory));
  }
  ~Stack() { munmap(memory_, kDeepStackBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void* memory() const { return memory_; }

 private:
  explicit Stack(void* memory) : memory_(memory) {}
  void* const memory_;
};

// One function on a stack of its own. Both sides call `swapcontext` to go on with the other.
struct Switch {
  const std::function<void()>& body;
  ucontext_t outside = {};
  ucontext_t inside = {};
  std::exception_ptr thrown = nullptr;
  // What the inside has the outside do.
  const std::function<void()>* visit = nullptr;
  std::exception_ptr thrownByVisit = nullptr;
};

// What the calling thread's stack was switched for; null on its own.
thread_local Switch* current = nullptr;
// Stacks of the calling thread that are not in use: as many as blocking runs were nested.
thread_local std::vector<std::unique_ptr<Stack>> idle;

std::exception_ptr thrownBy(const std::function<void()>& function) {
  try {
    function();
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

// The first function of a switched stack; its return goes on outside. (`makecontext` would pass integers only.)
void enter() { current->thrown = thrownBy(current->body); }

}  // namespace

void onSwitchedStack(const std::function<void()>& body) {
  std::unique_ptr<Stack> stack;
  if (idle.empty()) {
    stack = Stack::make();
  } else {
    stack = std::move(idle.back());
    idle.pop_back();
  }
  if (!stack) return body();
  Switch here{body};
  getcontext(&here.inside);
  here.inside.uc_stack.ss_sp = stack->memory();
  here.inside.uc_stack.ss_size = kDeepStackBytes;
  here.inside.uc_link = &here.outside;
  makecontext(&here.inside, enter, 0);
  while (true) {
    current = &here;
    swapcontext(&here.outside, &here.inside);
    current = nullptr;
    if (!here.visit) break;
    here.thrownByVisit = thrownBy(*std::exchange(here.visit, nullptr));
  }
  idle.push_back(std::move(stack));
  if (here.thrown) std::rethrow_exception(here.thrown);
}

void onOwnStack(const std::function<void()>& body) {
  auto* const here = current;
  if (!here) return body();
  here->visit = &body;
  swapcontext(&here->inside, &here->outside);
  if (here->thrownByVisit) std::rethrow_exception(std::exchange(here->thrownByVisit, nullptr));
}

#else

void onSwitchedStack(const std::function<void()>& body) { body(); }
void onOwnStack(const std::function<void()>& body) { body(); }

#endif

}  // namespace lta
