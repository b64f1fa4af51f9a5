#pragma once

#include <cstddef>
#include <cstdint>

namespace lta::archive {

// The checksum that zip archives keep of each record. `before`: that of what stands before these bytes.
uint32_t crc32(const void* data, size_t size, uint32_t before = 0);

}  // namespace lta::archive
