#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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

// A .pt2 file: a zip archive in memory, whose records lie below one folder; one of before PyTorch 2.8 has no folder.
class Package {
 public:
  // With `verify`, compares all records to their checksums. Throws ERR_MODEL_LOAD, ERR_UNSUPPORTED_FILE for what
  // PyTorch wrote that holds no program.
  Package(std::shared_ptr<archive::Mapping> mapping, bool verify);

  // Names are those below the folder.
  bool has(const std::string& name) const { return zip_.find(folder_ + name) != nullptr; }
  // A record of text, of at most that size.
  std::string text(const std::string& name, uint64_t most) const;
  // A record of a tensor. It begins at a multiple of 64 bytes, as memory that libtorch allocates does; where it lies in
  // the file so, it is the file's own.
  Bytes bytes(const std::string& name) const;
  uint64_t fileSize() const { return zip_.fileSize(); }

  // An archive that is a record of another one, such as torch.save writes; nothing is in it where the record is empty.
  class Inner {
   public:
    Inner(const Package& package, const std::string& record);

    std::string text(const std::string& name, uint64_t most) const;
    Bytes bytes(const std::string& name) const;

   private:
    const std::string name_;
    std::shared_ptr<archive::Mapping> mapping_;
    std::optional<archive::Zip> zip_;
    std::string folder_;
  };

  // Whether it is of PyTorch 2.7 or before: the names of its records are those of one program.
  bool isFlat() const { return isFlat_; }
  // The record of the program's graph.
  std::string programRecord() const;
  // Name of the program: that of the record below models/, the first where there are several.
  const std::string& program() const { return program_; }

 private:
  void findProgram();

  std::shared_ptr<archive::Mapping> mapping_;
  archive::Zip zip_;
  std::string folder_;
  std::string program_;
  bool isFlat_ = false;
};

}  // namespace lta::exported
