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

// The bytes of a regular file. Throws ERR_INVALID_ARGUMENT for a string that can't be a path, ERR_MODEL_LOAD for a
// missing or unreadable file or anything else: pipes and devices aren't opened, as that could block.
std::shared_ptr<const ByteSource> openFile(const std::string& path);

std::shared_ptr<const ByteSource> fromMemory(std::string bytes);

}  // namespace lta::archive
