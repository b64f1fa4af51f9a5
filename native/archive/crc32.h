#pragma once

#include <cstddef>
#include <cstdint>

namespace lta::archive {

// The checksum that zip archives keep of each record.
uint32_t crc32(const void* data, size_t size);

}  // namespace lta::archive
