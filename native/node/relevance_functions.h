// attentionRollout and attentionRelevance. Synchronous: they are cheap beside a forward.
#pragma once

#include <napi.h>

namespace lta::node {

void defineRelevanceFunctions(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
