// The error of an archive that exceeds a limit of limits.h.
#pragma once

#include "runtime/error.h"

namespace lta::archive {

// Distinct from other errors, since an archive from an untrusted source that exceeds a limit is reported as
// ERR_UNTRUSTED.
class LimitExceeded : public Error {
 public:
  explicit LimitExceeded(const std::string& message) : Error("ERR_MODEL_LOAD", message) {}
};

}  // namespace lta::archive
