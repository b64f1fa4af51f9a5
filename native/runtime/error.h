#pragma once

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace lta {

// An error of the public contract: `code` is what users see as `error.code`, `nativeStack` is what libtorch said below
// the message (a C++ backtrace, a TorchScript trace), kept apart so that the message stays readable.
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message, std::string nativeStack = {})
      : std::runtime_error(message), code_(code), nativeStack_(std::move(nativeStack)) {}

  const char* code() const noexcept { return code_; }
  const std::string& nativeStack() const noexcept { return nativeStack_; }
  // What caused this (what a hook threw), as the layer above knows it; none for nothing. Gone with the last copy of the
  // error, however the run ends.
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

// Thrown where a run stops because its caller asked for it. The caller knows the reason, so this carries none.
class Cancelled : public std::exception {
 public:
  const char* what() const noexcept override { return "cancelled"; }
};

// What any exception becomes at the boundary to JavaScript: `code` where the exception has none of its own, `context`
// before the message where that says more.
Error describe(std::exception_ptr exception, const char* code, const std::string& context = {});

}  // namespace lta
