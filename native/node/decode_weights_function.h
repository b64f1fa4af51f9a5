// decodeWeights: codes of weights as float32.
#pragma once

#include <napi.h>

namespace lta::node {

void defineDecodeWeights(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
