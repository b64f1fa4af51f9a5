#include "archive/crc32.h"

#include <array>
#include <cstring>

namespace lta::archive {
namespace {

// Slicing by eight: table k has the contribution of a byte that k bytes follow.
constexpr size_t kStep = 8;
using Tables = std::array<std::array<uint32_t, 256>, kStep>;

constexpr Tables makeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0xEDB88320u : 0);
    tables[0][byte] = value;
  }
  for (size_t table = 1; table < kStep; ++table) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const auto before = tables[table - 1][byte];
      tables[table][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = makeTables();

}  // namespace

uint32_t crc32(const void* data, size_t size, uint32_t before) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  uint32_t value = ~before;
  for (; size >= kStep; size -= kStep, bytes += kStep) {
    uint32_t low;
    std::memcpy(&low, bytes, sizeof low);  // every platform of libtorch is little-endian
    low ^= value;
    value = kTables[7][low & 0xFF] ^ kTables[6][low >> 8 & 0xFF] ^ kTables[5][low >> 16 & 0xFF] ^
            kTables[4][low >> 24] ^ kTables[3][bytes[4]] ^ kTables[2][bytes[5]] ^ kTables[1][bytes[6]] ^
            kTables[0][bytes[7]];
  }
  for (; size > 0; --size, ++bytes) value = (value >> 8) ^ kTables[0][(value ^ *bytes) & 0xFF];
  return ~value;
}

}  // namespace lta::archive
