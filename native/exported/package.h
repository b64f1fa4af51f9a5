#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "archive/mapping.h"
#include "archive/zip.h"

namespace lta::exported {

// Bytes of a record, in memory that may be written to and that `owner` keeps.
struct Bytes {
  char* data = nullptr;
  uint64_t size = 0;
  std::shared_ptr<const void> owner;
};

// A .pt2 file: a zip archive in memory, whose records lie below one folder.
class Package {
 public:
  // With `verify`, compares all records to their checksums. Throws ERR_MODEL_LOAD, ERR_UNSUPPORTED_FILE for what
  // PyTorch wrote that holds no program, or one in a form of before 2.9.
  Package(std::shared_ptr<archive::Mapping> mapping, bool verify);

  // Names are those below the folder.
  bool has(const std::string& name) const { return zip_.find(folder_ + name) != nullptr; }
  // A record of text, of at most that size.
  std::string text(const std::string& name, uint64_t most) const;
  // A record of a tensor. It begins at a multiple of 64 bytes, as memory that libtorch allocates does; where it lies in
  // the file so, it is the file's own.
  Bytes bytes(const std::string& name) const;
  uint64_t fileSize() const { return zip_.fileSize(); }

  // Name of the program: that of the record below models/, the first where there are several.
  const std::string& program() const { return program_; }

 private:
  const archive::Record& record(const std::string& name) const;
  void findProgram();

  std::shared_ptr<archive::Mapping> mapping_;
  archive::Zip zip_;
  std::string folder_;
  std::string program_;
};

}  // namespace lta::exported
