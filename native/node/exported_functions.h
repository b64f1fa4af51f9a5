#pragma once

#include <napi.h>

namespace lta::node {

// loadExportedProgram, describeExportedProgram.
void defineExportedFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
