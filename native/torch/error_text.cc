#include "torch/error_text.h"

#include <c10/util/Exception.h>

#include <cstddef>
#include <optional>
#include <utility>

namespace lta {
namespace {

std::string trimmed(std::string text) {
  const auto first = text.find_first_not_of(" \n\t");
  if (first == std::string::npos) return {};
  const auto last = text.find_last_not_of(" \n\t");
  return text.substr(first, last - first + 1);
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

bool isNameStart(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool isNamePart(char c) { return isNameStart(c) || c == '.' || (c >= '0' && c <= '9'); }

// The position after the first line beginning with an exception's name and a colon. One pass: the text may be of any
// length.
std::optional<size_t> afterExceptionName(const std::string& text, size_t from) {
  for (auto line = text.find('\n', from); line != std::string::npos; line = text.find('\n', line + 1)) {
    auto at = line + 1;
    if (at >= text.size() || !isNameStart(text[at])) continue;
    while (at < text.size() && isNamePart(text[at])) ++at;
    if (text.compare(at, 2, ": ") == 0) return at + 2;
  }
  return std::nullopt;
}

// "The following operation failed … Traceback of TorchScript … <exception's name>: <message>".
ErrorText splitInterpreterText(const std::string& text) {
  static const std::string kMarker = "The following operation failed in the TorchScript interpreter.";
  if (text.find(kMarker) == std::string::npos) return {trimmed(text), {}};
  static const std::string kPointer = "<--- HERE";
  const auto pointer = text.rfind(kPointer);
  const auto from = pointer == std::string::npos ? text.rfind(kMarker) + kMarker.size() : pointer + kPointer.size();
  const auto message = afterExceptionName(text, from);
  if (!message) return {trimmed(text), {}};
  return {trimmed(text.substr(*message)), trimmed(text)};
}

// "<message> Exception raised from … (most recent call first): frame #0 …".
void cutBacktrace(ErrorText& text) {
  const auto at = text.message.find("\nException raised from ");
  if (at == std::string::npos) return;
  if (text.stack.empty()) text.stack = text.message;
  text.message = trimmed(text.message.substr(0, at));
}

// "Could not run '<operator>' with arguments from the '<backend>' backend. This could be because …", and the whole
// table of backends that have a kernel.
void nameBackend(ErrorText& text) {
  static const std::string kStart = "Could not run '";
  static const std::string kMiddle = "' with arguments from the '";
  static const std::string kEnd = "' backend";
  if (text.message.compare(0, kStart.size(), kStart) != 0) return;
  const auto middle = text.message.find(kMiddle);
  if (middle == std::string::npos) return;
  const auto end = text.message.find(kEnd, middle);
  if (end == std::string::npos) return;
  const auto name = text.message.substr(kStart.size(), middle - kStart.size());
  const auto from = middle + kMiddle.size();
  const auto backend = text.message.substr(from, end - from);
  // Tensors without elements of their own, sparse ones …: the backend is there.
  const bool isDevice = backend.find("CUDA") != std::string::npos || backend == "XPU" || backend == "MPS" ||
                        backend == "HPU" || backend == "XLA" || backend.find("PrivateUse") != std::string::npos;
  if (text.stack.empty()) text.stack = text.message;
  text.message = "'" + name + "' can't run on tensors of the kind '" + backend + "'";
  if (isDevice) {
    text.message +=
        ": the program itself names a device that this libtorch lacks, where loading doesn't replace it by "
        "the option `device`, or a tensor is on one";
  }
}

}  // namespace

ErrorText errorTextOf(const std::exception& exception) {
  const auto* const own = dynamic_cast<const c10::Error*>(&exception);
  auto text = splitInterpreterText(own ? own->what_without_backtrace() : exception.what());
  if (own && text.stack.empty()) text.stack = exception.what();
  cutBacktrace(text);
  nameBackend(text);
  return text;
}

bool isUnknownOperatorError(const std::string& message) {
  return contains(message, "Unknown builtin op") || contains(message, "unknown builtin op");
}

bool mentionsType(const std::string& message) { return contains(message, "type"); }

std::string firstRegistrationSite(const std::string& message) {
  static const std::string kBefore = "Previous registration of TORCH_LIBRARY was ";
  auto begin = message.find(kBefore);
  if (begin == std::string::npos) return {};
  begin = message.find('/', begin);
  const auto end = message.find(":0", begin);
  return begin == std::string::npos || end == std::string::npos ? std::string() : message.substr(begin, end - begin);
}

}  // namespace lta
