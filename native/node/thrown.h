// Carries what a JavaScript function threw through C++.
#pragma once

#include <napi.h>

#include "runtime/error.h"

namespace lta::node {

// `box` is an object that holds the thrown value. It is released with the last error that has it as its cause, on any
// thread.
Error::Cause thrown(Napi::Object box);

// The object again. Only on the event loop's thread that it came from.
Napi::Object boxOf(Napi::Env env, const Error::Cause& cause);

}  // namespace lta::node
