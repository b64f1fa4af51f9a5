// libtorch's thread-local state, for threads that continue the work of another.
#pragma once

#include <ATen/ThreadLocalState.h>

namespace lta {

// ThreadState captures gradient mode, dispatch keys and run-local objects of the calling thread; ThreadStateScope
// applies them to another.
using ThreadState = at::ThreadLocalState;
using ThreadStateScope = at::ThreadLocalStateGuard;

}  // namespace lta
