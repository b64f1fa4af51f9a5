#pragma once

#include <napi.h>

namespace lta::node {

// loadScriptModule.
void defineScriptFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
