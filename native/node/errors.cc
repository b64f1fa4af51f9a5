#include "node/errors.h"

namespace lta::node {

Napi::Error toJs(Napi::Env env, std::exception_ptr exception, const char* code) {
  const auto make = [&](const char* itsCode, const std::string& message, const std::string& nativeStack,
                        int64_t cause) {
    auto error = Napi::Error::New(env, message);
    error.Set("code", Napi::String::New(env, itsCode));
    if (!nativeStack.empty()) error.Set("nativeStack", Napi::String::New(env, nativeStack));
    if (cause) error.Set("causeId", Napi::Number::New(env, static_cast<double>(cause)));
    return error;
  };
  try {
    std::rethrow_exception(exception);
  } catch (const Cancelled& cancelled) {
    return make("CANCELLED", cancelled.what(), {}, 0);
  } catch (...) {
    const auto error = describe(std::current_exception(), code);
    return make(error.code(), error.what(), error.nativeStack(), error.cause());
  }
}

}  // namespace lta::node
