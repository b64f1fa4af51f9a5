#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "archive/byte_source.h"

namespace lta::archive {

// All bytes of a source in memory, at an address that is a multiple of the page's size. They may be written to: what is
// written stays with this object and never reaches the file.
class Mapping final : public ByteSource {
 public:
  // A file's own pages, which all processes that map it share as long as they don't write to them. The file must stay
  // as long as it is: reading a page that somebody has cut off ends the process.
  static std::shared_ptr<Mapping> ofFile(const std::string& path);
  // Copies: nobody else can change them.
  static std::shared_ptr<Mapping> copyOfFile(const std::string& path);
  static std::shared_ptr<Mapping> copyOf(std::string_view bytes);

  ~Mapping() override;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint64_t size() const override { return size_; }
  void read(uint64_t position, void* into, size_t count) const override;
  char* data() const { return data_; }

 private:
  // Memory of its own, or a file's where one is given.
  Mapping(uint64_t size, int descriptor);

  const uint64_t size_;
  char* data_ = nullptr;
};

}  // namespace lta::archive
