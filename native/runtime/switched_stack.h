// Deep stacks for a thread that the addon didn't start.
#pragma once

#include <functional>

namespace lta {

// Runs a function on the calling thread, on a stack as deep as those of the executor's threads (see deep_stack.h), and
// rethrows what it throws: an event loop's thread may have as little as 200 KB left, and a program may recurse without
// end. On the thread's own stack if the system has no memory for another.
void onSwitchedStack(const std::function<void()>& body);

// Called inside such a function: runs `body` on the stack that the thread came with. For JavaScript, since V8 takes any
// other address for an overflow. `body` may switch in turn.
void onOwnStack(const std::function<void()>& body);

}  // namespace lta
