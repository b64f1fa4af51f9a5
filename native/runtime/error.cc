#include "runtime/error.h"

#include <c10/util/Exception.h>

#include <new>
#include <regex>

namespace lta {
namespace {

std::string trimmed(std::string text) {
  const auto first = text.find_first_not_of(" \n\t");
  if (first == std::string::npos) return {};
  const auto last = text.find_last_not_of(" \n\t");
  return text.substr(first, last - first + 1);
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
  static const std::regex kException("\n[A-Za-z_][A-Za-z0-9_.]*: ");
  std::smatch match;
  if (!std::regex_search(text.begin() + static_cast<std::ptrdiff_t>(from), text.end(), match, kException)) {
    return {trimmed(text), {}};
  }
  return {trimmed(std::string(match[0].second, text.end())), trimmed(text)};
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
    return Error(code, context.empty() ? split.message : context + ": " + split.message, split.stack);
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
