// Threads with a stack of a gigabyte of address space (memory is committed as it is used).
#pragma once

#include <cstddef>
#include <exception>
#include <functional>

namespace lta {

// libtorch's compiler recurses for every level of nesting, and destroying nested lists recurses as well; a program may
// nest millions. The stack size of other threads is up to the system.

inline constexpr size_t kDeepStackBytes = size_t{1} << 30;

// Runs a function on such a thread, waits for it and rethrows what it throws.
void onDeepStack(const std::function<void()>& function);

// Starts such a thread, detached; with a default stack if the system refuses the large one. Throws std::system_error if
// no thread can be started.
void startOnDeepStack(std::function<void()> function);

// Threads without an explicit stack size that are started during `body`, by any thread, get such stacks.
void withDeepStacks(const std::function<void()>& body);

}  // namespace lta
