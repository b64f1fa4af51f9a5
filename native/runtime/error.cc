#include "runtime/error.h"

#include <c10/util/Exception.h>

#include <new>

namespace lta {
namespace {

std::string trimmed(std::string text) {
  const auto first = text.find_first_not_of(" \n\t");
  if (first == std::string::npos) return {};
  const auto last = text.find_last_not_of(" \n\t");
  return text.substr(first, last - first + 1);
}

// The TorchScript interpreter wraps what an operator threw into "The following operation failed … Traceback of
// TorchScript … RuntimeError: <what was thrown>". The last line that starts with an exception's name begins the part
// that a user can act on; the whole text stays available as the native stack.
struct Split {
  std::string message;
  std::string stack;
};

Split splitInterpreterMessage(const std::string& text) {
  static const std::string kMarker = "The following operation failed in the TorchScript interpreter.";
  if (text.find(kMarker) == std::string::npos) return {trimmed(text), {}};
  static const std::string kPrefixes[] = {"\nRuntimeError: ", "\ntorch.jit.Error: "};
  size_t begin = std::string::npos;
  for (const auto& prefix : kPrefixes) {
    const auto found = text.rfind(prefix);
    if (found != std::string::npos && (begin == std::string::npos || found + prefix.size() > begin)) {
      begin = found + prefix.size();
    }
  }
  if (begin == std::string::npos) return {trimmed(text), {}};
  std::string message = text.substr(begin);
  return {trimmed(message), trimmed(text)};
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
