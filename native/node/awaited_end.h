// Has the event loop wait for the ends of short runs.
#pragma once

#include <napi.h>

#include <memory>

#include "runtime/short_runs.h"

namespace lta::node {

// To be called when a run has begun: the event loop waits for its end once it has handled what else is ready, if the
// run is the only one in flight and likely to end soon.
void awaitIfShort(Napi::Env env, const std::shared_ptr<ShortRuns>& runs);

// To be called once per environment.
void defineAwaitedEnd(Napi::Env env);

}  // namespace lta::node
