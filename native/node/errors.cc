#include "node/errors.h"

#include "node/thrown.h"

namespace lta::node {

Napi::Error toJs(Napi::Env env, std::exception_ptr exception, const char* code) {
  const auto make = [&](const char* errorCode, const std::string& message, const std::string& nativeStack,
                        const Error::Cause& cause) {
    auto error = Napi::Error::New(env, message);
    error.Set("code", Napi::String::New(env, errorCode));
    if (!nativeStack.empty()) error.Set("nativeStack", Napi::String::New(env, nativeStack));
    if (cause) error.Set("failure", boxOf(env, cause));
    return error;
  };
  try {
    std::rethrow_exception(exception);
  } catch (const Cancelled& cancelled) {
    return make("CANCELLED", cancelled.what(), {}, nullptr);
  } catch (...) {
    const auto error = describe(std::current_exception(), code);
    return make(error.code(), error.what(), error.nativeStack(), error.cause());
  }
}

}  // namespace lta::node
