#pragma once

#include <exception>
#include <functional>

namespace lta {

// Threads whose stack has a gigabyte (of addresses: memory is taken as it is used). libtorch's compiler calls itself
// for everything that is nested, and frees a list in a list in a list by calling itself for each, of which a program
// may make millions; how large the stacks of other threads are is up to the system.

// Runs a function on such a thread and waits for it. What the function throws is thrown on.
void onDeepStack(const std::function<void()>& function);

// Starts such a thread, which nobody waits for; one like any other where the system has no room for its stack. Throws
// std::system_error where it starts none at all.
void startOnDeepStack(std::function<void()> function);

// Threads that `body`, or anybody else meanwhile, starts without a stack size of their own are such threads.
void withDeepStacks(const std::function<void()>& body);

}  // namespace lta
