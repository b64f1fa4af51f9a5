#include "runtime/error.h"

#include <new>

#include "torch/error_text.h"

namespace lta {
namespace {

// What a message is cut to: a model may raise one as long as it likes. The native stack has more of it.
constexpr size_t kMaxMessage = 4096;
constexpr size_t kMaxStack = size_t{256} * 1024;

// The first bytes of a text, with a mark where there are more; no character is cut in two.
std::string cut(std::string text, size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  text.resize(most);
  return text + "…";
}

}  // namespace

Error describe(std::exception_ptr exception, const char* code, const std::string& context) {
  const auto make = [&](ErrorText text) {
    // What is cut of the message is in the stack.
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
