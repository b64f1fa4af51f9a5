#pragma once

#include <exception>
#include <functional>

namespace lta {

// Runs a function on a thread of its own with a stack of half a gigabyte (of addresses: memory is taken as it is used),
// and waits for it. For libtorch's compiler, which calls itself for everything that is nested; how large the stacks of
// other threads are is up to the system. What the function throws is thrown on.
void onDeepStack(const std::function<void()>& function);

}  // namespace lta
