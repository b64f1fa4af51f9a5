// Parses libtorch's error texts: the only place that depends on their wording.
#pragma once

#include <exception>
#include <string>

namespace lta {

// The message for the user, and the full text where that is more.
struct ErrorText {
  std::string message;
  std::string stack;
};

// The TorchScript interpreter embeds an operator's or a model's message in a text of its own, with a trace of the
// program; c10::Error appends a C++ backtrace.
ErrorText errorTextOf(const std::exception& exception);

// Whether loading failed because an operator isn't registered.
bool isUnknownOperatorError(const std::string& message);
// Whether an error of a run mentions a type.
bool mentionsType(const std::string& message);
// The file of the previous registration that a duplicate-registration error names; empty if it names none.
std::string firstRegistrationSite(const std::string& message);

}  // namespace lta
