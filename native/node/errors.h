#pragma once

#include <napi.h>

#include <exception>

#include "runtime/error.h"

namespace lta::node {

// The JavaScript error that a C++ exception becomes: `code`, `message`, and `nativeStack` where there is one. A
// cancelled run gets the code 'CANCELLED', which the layer above replaces by the reason of its signal.
Napi::Error toJs(Napi::Env env, std::exception_ptr exception, const char* code = "ERR_INVALID_ARGUMENT");

// Runs the body of a function that JavaScript calls: whatever it throws becomes a JavaScript exception.
template <typename Body>
auto guarded(Napi::Env env, Body&& body, const char* code = "ERR_INVALID_ARGUMENT") -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw toJs(env, std::current_exception(), code);
  }
}

}  // namespace lta::node
