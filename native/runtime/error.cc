#include "runtime/error.h"

#include <new>

#include "torch/error_text.h"

namespace lta {
namespace {

// Limits of what is passed on: a model may raise a message of any length. The native stack has the rest.
constexpr size_t kMaxMessage = 4096;
constexpr size_t kMaxStack = size_t{256} * 1024;

// The first `most` bytes, with an ellipsis if truncated; never splits a UTF-8 sequence.
std::string cut(std::string text, size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  text.resize(most);
  return text + "…";
}

}  // namespace

Error describe(std::exception_ptr exception, const char* code, const std::string& context) {
  const auto make = [&](ErrorText text) {
    // A truncated message is in the stack in full.
    if (text.message.size() > kMaxMessage && text.stack.empty()) text.stack = text.message;
    const auto message = cut(std::move(text.message), kMaxMessage);
    return Error(code, context.empty() ? message : context + ": " + message, cut(std::move(text.stack), kMaxStack));
  };
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return make({"out of memory", {}});
  } catch (const std::exception& error) {
    return make(errorTextOf(error));
  } catch (...) {
    return make({"an exception of an unknown type was thrown", {}});
  }
}

}  // namespace lta
