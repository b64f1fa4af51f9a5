#pragma once

#include <napi.h>

#include "runtime/error.h"

namespace lta::node {

// What a JavaScript function threw, on its way through C++: an object that holds it. It is let go with the last error
// that has it as its cause, on whichever thread that is.
Error::Cause thrown(Napi::Object box);

// The same object again. On the event loop's thread that it came from.
Napi::Object boxOf(Napi::Env env, const Error::Cause& cause);

}  // namespace lta::node
