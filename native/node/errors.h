// Converts C++ exceptions to JavaScript errors. Every function that JavaScript calls goes through `guarded`.
#pragma once

#include <napi.h>

#include <exception>

#include "runtime/error.h"

namespace lta::node {

// The error has `code`, `message` and, if any, `nativeStack`. A cancelled run has the code 'CANCELLED', which lib/
// replaces by the reason of the signal.
Napi::Error toJs(Napi::Env env, std::exception_ptr exception, const char* code = "ERR_INVALID_ARGUMENT");

// Runs the body of a function called by JavaScript; converts what it throws.
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
