#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/error.h"

namespace lta::archive {

// The error for bytes at a place behind the end.
Error endsEarly(uint64_t position, size_t count, uint64_t size);

// A regular file that is open for reading, and its size when it was opened.
class RegularFile {
 public:
  // Throws ERR_INVALID_ARGUMENT for what can't be a path, ERR_MODEL_LOAD for what isn't there, can't be read or is no
  // regular file: none of them is opened, so that a pipe or a device keeps nobody waiting.
  explicit RegularFile(const std::string& path);
  ~RegularFile();
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int descriptor() const { return descriptor_; }
  uint64_t size() const { return size_; }

  // Reads exactly `count` bytes; throws ERR_MODEL_LOAD where there aren't as many (any more).
  void read(uint64_t position, void* into, size_t count) const;

 private:
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace lta::archive
