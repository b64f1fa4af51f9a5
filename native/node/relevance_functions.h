#pragma once

#include <napi.h>

namespace lta::node {

// attentionRollout and attentionRelevance, run at once on the calling thread (they are small beside a forward).
void defineRelevanceFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
