#pragma once

#include <cstdint>

namespace lta {

// Bytes of the process that lie in physical memory; 0 where the system doesn't tell at little cost.
int64_t residentMemory() noexcept;

}  // namespace lta
