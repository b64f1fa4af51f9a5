// Random-access bytes of a file or of memory. Opens regular files only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace lta::archive {

// Thread-safe. A file is opened once.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  // Reads exactly `count` bytes; throws ERR_MODEL_LOAD if the source is (or has become) too short.
  virtual void read(uint64_t position, void* into, size_t count) const = 0;
};

// The bytes of a regular file. Throws as RegularFile does.
std::shared_ptr<const ByteSource> openFile(const std::string& path);

std::shared_ptr<const ByteSource> fromMemory(std::string bytes);

}  // namespace lta::archive
