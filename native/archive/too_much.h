#pragma once

#include "runtime/error.h"

namespace lta::archive {

// Thrown where an archive asks for more than a limit allows. It may be whole otherwise; of an untrusted source it is
// taken for an attack.
class TooMuch : public Error {
 public:
  explicit TooMuch(const std::string& message) : Error("ERR_MODEL_LOAD", message) {}
};

}  // namespace lta::archive
