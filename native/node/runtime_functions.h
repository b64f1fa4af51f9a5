#pragma once

#include <napi.h>

namespace lta::node {

// What concerns the process rather than a model: threads, seed, versions, devices.
void defineRuntimeFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
