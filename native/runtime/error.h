// Errors of the public contract, and what other exceptions become. Knows no Node-API: native/node converts.
#pragma once

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace lta {

// `code` is the user's `error.code`. `nativeStack` is what libtorch appends to a message (a C++ backtrace, a
// TorchScript trace), kept apart so that the message stays readable.
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message, std::string nativeStack = {})
      : std::runtime_error(message), code_(code), nativeStack_(std::move(nativeStack)) {}

  const char* code() const noexcept { return code_; }
  const std::string& nativeStack() const noexcept { return nativeStack_; }
  // What caused this (a value that a hook threw), owned by the layer above; null for none. Released with the last copy
  // of the error.
  using Cause = std::shared_ptr<void>;
  const Cause& cause() const noexcept { return cause_; }
  Error withCause(Cause cause) const {
    Error error = *this;
    error.cause_ = std::move(cause);
    return error;
  }

 private:
  const char* code_;
  std::string nativeStack_;
  Cause cause_;
};

// Thrown when a run stops at its caller's request. The caller knows the reason, so this carries none.
class Cancelled : public std::exception {
 public:
  const char* what() const noexcept override { return "cancelled"; }
};

// Converts any exception: `code` is used unless the exception has its own, `context` is prefixed to the message unless
// it is an Error.
Error describe(std::exception_ptr exception, const char* code, const std::string& context = {});

}  // namespace lta
