#pragma once

#include <exception>
#include <string>

namespace lta {

// What libtorch says in an exception: the message that a user can act on, and all of it where that is more.
struct ErrorText {
  std::string message;
  std::string stack;
};

// The TorchScript interpreter wraps what an operator threw, or a model raised, into a text of its own, with a trace of
// the program; other exceptions have a trace of the C++ stack after their message.
ErrorText errorTextOf(const std::exception& exception);

// Whether an error of loading is about an operator that isn't registered.
bool tellsOfUnknownOperator(const std::string& message);
// Whether an error of a run is about the type of some tensor.
bool tellsOfType(const std::string& message);
// Where an operator, or a namespace of them, was registered before, as the error of registering it again tells; empty
// where it doesn't.
std::string placeOfFirstRegistration(const std::string& message);

}  // namespace lta
