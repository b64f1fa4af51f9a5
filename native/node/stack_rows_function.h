#pragma once

#include <napi.h>

namespace lta::node {

// stackRows, for several lists at once, on a thread of the executor: all attentions of a long generation are large.
void defineStackRows(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
