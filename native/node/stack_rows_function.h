// stackRows, asynchronous: the attentions of a long generation are large.
#pragma once

#include <napi.h>

namespace lta::node {

void defineStackRows(Napi::Env env, Napi::Object exports);

}  // namespace lta::node
