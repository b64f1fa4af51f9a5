// CRC-32, the checksum of zip records.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lta::archive {

// `before`: the checksum of the bytes that precede these.
uint32_t crc32(const void* data, size_t size, uint32_t before = 0);

}  // namespace lta::archive
