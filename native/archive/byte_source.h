#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace lta::archive {

// Bytes that can be read anywhere, of a file that is opened once or of memory. Safe to use from several threads.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  // Reads exactly `count` bytes; throws ERR_MODEL_LOAD where there aren't as many (any more).
  virtual void read(uint64_t position, void* into, size_t count) const = 0;
};

// The bytes of a regular file. Throws as RegularFile does.
std::shared_ptr<const ByteSource> openFile(const std::string& path);

std::shared_ptr<const ByteSource> ofMemory(std::string bytes);

}  // namespace lta::archive
