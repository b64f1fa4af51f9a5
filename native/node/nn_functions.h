#pragma once

#include <napi.h>

namespace lta::node {

// What concerns native modules alone: createNnModule, loadNnParameters, and their modes.
void defineNnFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
