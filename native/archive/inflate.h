// Decompression of zip records, by the decompressor inside libtorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lta::archive {

// Inflates into exactly `size` bytes. Throws if the data are invalid or inflate to another size.
void inflate(const std::string& deflated, void* into, uint64_t size);

}  // namespace lta::archive
