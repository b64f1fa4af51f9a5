// Functions for native modules: createNnModule, loadNnParameters, modes.
#pragma once

#include <napi.h>

namespace lta::node {

void defineNnFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
