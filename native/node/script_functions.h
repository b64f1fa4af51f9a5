// Functions for TorchScript: loadScriptModule.
#pragma once

#include <napi.h>

namespace lta::node {

void defineScriptFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
