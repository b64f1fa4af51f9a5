// Runs on an event loop's own thread, which blocks until they are over.
#pragma once

#include <napi.h>

#include <functional>

#include "node/async.h"

namespace lta::node {

// Runs `work` on the calling thread, an event loop's, as `runAsync` does on one of the executor's, and throws what it
// throws. The end of the environment can't come before that of the run, and doesn't stop it.
void runBlocking(const std::function<void()>& work, TaskOptions options);

// Whether the calling thread computes for such a run.
bool inBlockingRun();

// Has a run call JavaScript: `body` is run on the thread's own stack and with libtorch's thread-local state (gradient
// mode, dispatch keys, what the run is) as they were before the run. Another run may block inside.
void outsideBlockingRun(const std::function<void()>& body);

}  // namespace lta::node
