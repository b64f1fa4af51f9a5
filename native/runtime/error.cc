#include "runtime/error.h"

#include <c10/util/Exception.h>

#include <new>
#include <optional>

namespace lta {
namespace {

std::string trimmed(std::string text) {
  const auto first = text.find_first_not_of(" \n\t");
  if (first == std::string::npos) return {};
  const auto last = text.find_last_not_of(" \n\t");
  return text.substr(first, last - first + 1);
}

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

bool isNameStart(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool isNamePart(char c) { return isNameStart(c) || c == '.' || (c >= '0' && c <= '9'); }

// Where the message begins behind the first line, from a position on, that begins with the name of an exception and a
// colon. Walked through once: the text may be of any length.
std::optional<size_t> behindExceptionName(const std::string& text, size_t from) {
  for (auto line = text.find('\n', from); line != std::string::npos; line = text.find('\n', line + 1)) {
    auto at = line + 1;
    if (at >= text.size() || !isNameStart(text[at])) continue;
    while (at < text.size() && isNamePart(text[at])) ++at;
    if (text.compare(at, 2, ": ") == 0) return at + 2;
  }
  return std::nullopt;
}

struct Split {
  std::string message;
  std::string stack;
};

// The TorchScript interpreter wraps what an operator threw, or a model raised, into "The following operation failed …
// Traceback of TorchScript … <exception's name>: <message>". The message is what a user can act on; the whole text
// stays available as the native stack.
Split splitInterpreterMessage(const std::string& text) {
  static const std::string kMarker = "The following operation failed in the TorchScript interpreter.";
  if (text.find(kMarker) == std::string::npos) return {trimmed(text), {}};
  static const std::string kPointer = "<--- HERE";
  const auto pointer = text.rfind(kPointer);
  const auto from = pointer == std::string::npos ? text.rfind(kMarker) + kMarker.size() : pointer + kPointer.size();
  const auto message = behindExceptionName(text, from);
  if (!message) return {trimmed(text), {}};
  return {trimmed(text.substr(*message)), trimmed(text)};
}

// libtorch appends "Exception raised from … (most recent call first): frame #0 …" to what its exceptions say.
void cutBacktrace(Split& split) {
  const auto at = split.message.find("\nException raised from ");
  if (at == std::string::npos) return;
  if (split.stack.empty()) split.stack = split.message;
  split.message = trimmed(split.message.substr(0, at));
}

}  // namespace

Error describe(std::exception_ptr exception, const char* code, const std::string& context) {
  const auto make = [&](Split split) {
    cutBacktrace(split);
    // What is cut of the message is in the stack.
    if (split.message.size() > kMaxMessage && split.stack.empty()) split.stack = split.message;
    const auto message = cut(std::move(split.message), kMaxMessage);
    return Error(code, context.empty() ? message : context + ": " + message, cut(std::move(split.stack), kMaxStack));
  };
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return error;
  } catch (const c10::Error& error) {
    Split split = splitInterpreterMessage(error.what_without_backtrace());
    if (split.stack.empty()) split.stack = error.what();
    return make(std::move(split));
  } catch (const std::bad_alloc&) {
    return make({"out of memory", {}});
  } catch (const std::exception& error) {
    return make(splitInterpreterMessage(error.what()));
  } catch (...) {
    return make({"an exception of an unknown type was thrown", {}});
  }
}

}  // namespace lta
