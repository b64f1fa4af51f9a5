// Resident memory of the process. Never throws, never allocates.
#pragma once

#include <cstdint>

namespace lta {

// In bytes; 0 if the system can't tell cheaply.
int64_t residentMemory() noexcept;

}  // namespace lta
