#pragma once

#include <ATen/ThreadLocalState.h>

namespace lta {

// All that libtorch keeps by thread (gradient mode, dispatch keys, run-local objects), taken where one is made and put
// in place on another thread by a scope: for threads that go on with the work of the one that starts them.
using ThreadState = at::ThreadLocalState;
using ThreadStateScope = at::ThreadLocalStateGuard;

}  // namespace lta
