#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lta::archive {

// Decompresses what zip archives hold, into exactly `size` bytes. Throws where it isn't valid, or another size.
void inflate(const std::string& deflated, void* into, uint64_t size);

}  // namespace lta::archive
