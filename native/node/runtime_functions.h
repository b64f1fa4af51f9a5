// Functions about the process: threads, seed, versions, devices.
#pragma once

#include <napi.h>

namespace lta::node {

void defineRuntimeFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
